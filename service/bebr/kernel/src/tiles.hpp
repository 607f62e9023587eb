// How queries meet parts of blocked codes: tiles of queries, and the order in which they scan groups.
#pragma once

#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

#include "scan.hpp"
#include "topk.hpp"

namespace bebr {

// A chunk of groups stays in the L2 cache while one tile of queries after the other scans it.
constexpr std::size_t kChunkBytes = 512 * 1024;
// With one tile no group is scanned twice, and only the list of groups has to stay in the cache.
constexpr std::size_t kListedGroups = 4096;

// Groups to scan, relative to the first one of a chunk.
struct Lists {
    std::vector<std::uint32_t> all;   // 0, 1, 2, ...
    std::vector<std::uint32_t> some;  // room for a part of them

    // Makes room for so many.
    void grow(std::size_t size) {
        const std::size_t before = all.size();
        if (size <= before) return;
        all.resize(size);
        some.resize(size);
        std::iota(all.begin() + before, all.end(), static_cast<std::uint32_t>(before));
    }
};

// Up to kMaxTile queries that are scored together, and the best rows of each so far.
template <class Order>
struct Tile : Sink<typename Order::Score> {
    using Score = typename Order::Score;

    std::span<const std::uint32_t> members;  // row numbers in the batch
    std::vector<TopK<Order>> best;
    const std::uint16_t* masks[kMaxTile];
    std::vector<const std::uint16_t*> distinct_masks;  // empty when a query wants all rows
    std::size_t first_group = 0;          // of the groups that the kernel is scanning
    std::uint32_t lanes_in_use = 0xffff;  // fewer in the last group

    // ties: whether all rows that tie with the k-th best of a query are wanted, too.
    Tile(std::span<const std::uint32_t> members_, const Wanted<Score>& wanted, bool ties = false) : members(members_) {
        this->offer = &take;
        bool all_rows = false;
        for (std::size_t q = 0; q < members.size(); ++q) {
            best.emplace_back(wanted.k, ties);
            masks[q] = wanted.masks[members[q]];
            this->bounds[q] = wanted.bounds ? wanted.bounds[members[q]] : Order::kNothing;
            all_rows |= masks[q] == nullptr;
            if (std::find(distinct_masks.begin(), distinct_masks.end(), masks[q]) == distinct_masks.end())
                distinct_masks.push_back(masks[q]);
        }
        if (all_rows) distinct_masks.clear();
    }

    // Receives from the kernel the lanes of one group that are within the bound of one query.
    static void take(Sink<Score>& sink, int query, std::uint32_t group, std::uint32_t lanes, const Score* scores) {
        auto& tile = static_cast<Tile&>(sink);
        const std::size_t absolute = tile.first_group + group;
        lanes &= tile.lanes_in_use;
        if (tile.masks[query]) lanes &= tile.masks[query][absolute];
        for (; lanes; lanes &= lanes - 1) {
            const int lane = std::countr_zero(lanes);
            if (!Order::within(scores[lane], tile.bounds[query])) continue;
            const auto row = static_cast<std::uint32_t>(absolute * kGroupRows + lane);
            if (tile.best[query].push(scores[lane], row)) tile.bounds[query] = tile.best[query].bound();
        }
    }

    // Prepares for the groups of [first, end) and tells which of them to scan: those with a row that some query wants.
    std::span<const std::uint32_t> start_chunk(std::size_t first, std::size_t end, Lists& lists) {
        const std::size_t groups = end - first;
        first_group = first;
        this->live = union_of_masks(first, end);
        if (!this->live || !worth_skipping(groups)) return {lists.all.data(), groups};
        std::size_t count = 0;
        for (std::size_t group = 0; group < groups; ++group) {
            lists.some[count] = static_cast<std::uint32_t>(group);
            count += this->live[group] != 0;
        }
        return {lists.some.data(), count};
    }

private:
    std::vector<std::uint16_t> scratch_;

    // The rows of groups [first, end) that any query wants; null: all.
    const std::uint16_t* union_of_masks(std::size_t first, std::size_t end) {
        if (distinct_masks.empty()) return nullptr;
        if (distinct_masks.size() == 1) return distinct_masks[0] + first;
        scratch_.assign(end - first, 0);
        for (const std::uint16_t* mask : distinct_masks)
            for (std::size_t group = first; group < end; ++group) scratch_[group - first] |= mask[group];
        return scratch_.data();
    }

    // Many queries wait for arithmetic, and every group left out is time saved. One query waits for memory, which comes
    // slower in pieces than in one run: then few gaps are better read over.
    bool worth_skipping(std::size_t groups) const {
        if (members.size() > 1) return true;
        std::size_t count = 0;
        for (std::size_t group = 0; group < groups; ++group) count += this->live[group] != 0;
        return 4 * count <= 3 * groups;
    }
};

// Queries with the same mask stand next to each other, so that a tile can skip what none of its queries wants.
template <class Score>
std::vector<std::uint32_t> order_by_mask(const Wanted<Score>& wanted) {
    std::vector<std::uint32_t> order(wanted.queries);
    std::iota(order.begin(), order.end(), 0u);
    const auto by_mask = [&](std::uint32_t a, std::uint32_t b) {
        return std::less<const std::uint16_t*>{}(wanted.masks[a], wanted.masks[b]);
    };
    std::stable_sort(order.begin(), order.end(), by_mask);
    return order;
}

// Cuts the queries into as few tiles as possible, of sizes that differ by at most one.
inline std::vector<std::span<const std::uint32_t>> cut(std::span<const std::uint32_t> order, std::size_t max_tile) {
    const std::size_t tiles = (order.size() + max_tile - 1) / max_tile;
    std::vector<std::span<const std::uint32_t>> parts;
    for (std::size_t i = 0; i < tiles; ++i) {
        const std::size_t first = order.size() * i / tiles, end = order.size() * (i + 1) / tiles;
        parts.push_back(order.subspan(first, end - first));
    }
    return parts;
}

// Runs every tile over every group. run(tile number, groups, list) calls the kernel.
template <class AnyTile, class Run>
void scan(const Layout& layout, const Rows& rows, std::vector<AnyTile>& tiles, Lists& lists, const Run& run) {
    const std::size_t full_groups = rows.count / kGroupRows;
    const std::size_t group_bytes = layout.group_words() * sizeof(std::uint32_t);
    std::size_t chunk = tiles.size() == 1 ? kListedGroups : std::max<std::size_t>(1, kChunkBytes / group_bytes);
    chunk = std::clamp<std::size_t>(full_groups, 1, chunk);
    lists.grow(chunk);
    for (std::size_t first = 0; first < full_groups; first += chunk) {
        const Groups groups{rows.words + first * layout.group_words(),
                            rows.gains ? rows.gains + first * kGroupRows : nullptr};
        for (std::size_t t = 0; t < tiles.size(); ++t)
            run(t, groups, tiles[t].start_chunk(first, std::min(first + chunk, full_groups), lists));
    }
    const std::size_t rest = rows.count % kGroupRows;
    if (rest == 0) return;
    // The gains may end with the last row, while a kernel reads them 16 at a time.
    std::uint16_t last_gains[kGroupRows] = {};
    if (rows.gains) std::copy_n(rows.gains + full_groups * kGroupRows, rest, last_gains);
    const Groups last{rows.words + full_groups * layout.group_words(), last_gains};
    for (std::size_t t = 0; t < tiles.size(); ++t) {
        tiles[t].lanes_in_use = (1u << rest) - 1;
        run(t, last, tiles[t].start_chunk(full_groups, full_groups + 1, lists));
    }
}

}  // namespace bebr
