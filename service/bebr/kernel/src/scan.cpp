#include "scan.hpp"

#include <algorithm>
#include <bit>
#include <vector>

#include "tiles.hpp"

namespace bebr {
namespace {

// One query that wants the best rows of each label. Every row within the bound is offered: a row that is far from the
// best of all may be the best of its label.
template <class Order, class Entry>
struct LabelTile : Tile<Order> {
    using Score = typename Order::Score;

    const Labels& labels;
    BestOfLabels<Order, Entry> best_of_labels;

    LabelTile(std::span<const std::uint32_t> members, const Wanted<Score>& wanted, const Labels& labels_)
        : Tile<Order>(members, wanted), labels(labels_), best_of_labels(labels_.count, wanted.k) {
        this->offer = &take;
    }

    static void take(Sink<Score>& sink, int, std::uint32_t group, std::uint32_t lanes, const Score* scores) {
        auto& tile = static_cast<LabelTile&>(static_cast<Tile<Order>&>(sink));
        const std::size_t absolute = tile.first_group + group;
        lanes &= tile.lanes_in_use;
        if (tile.masks[0]) lanes &= tile.masks[0][absolute];
        for (; lanes; lanes &= lanes - 1) {
            const int lane = std::countr_zero(lanes);
            if (Order::within(scores[lane], tile.bounds[0])) tile.push(scores[lane], absolute * kGroupRows + lane);
        }
    }

    std::span<const std::uint32_t> start_chunk(std::size_t first, std::size_t end, Lists& lists) {
        if (const auto bound = best_of_labels.bound(labels.wanted); bound && Order::within(*bound, this->bounds[0]))
            this->bounds[0] = *bound;
        return Tile<Order>::start_chunk(first, end, lists);
    }

private:
    // A row has one label, or those of the items starts[row] .. starts[row + 1], each counted once.
    void push(Score score, std::size_t row) {
        const std::uint32_t rank = labels.ranks ? labels.ranks[row] : 0;
        if (!labels.starts) return push_item(score, rank, row);
        const auto first = static_cast<std::size_t>(labels.starts[row]);
        const auto end = static_cast<std::size_t>(labels.starts[row + 1]);
        for (std::size_t item = first; item < end; ++item) {
            const std::int32_t* codes = labels.codes;
            if (std::find(codes + first, codes + item, codes[item]) == codes + item) push_item(score, rank, item);
        }
    }

    void push_item(Score score, std::uint32_t rank, std::size_t item) {
        const std::int32_t label = labels.codes[item];
        if (label >= 0)
            best_of_labels.push(static_cast<std::size_t>(label), score, rank, static_cast<std::uint32_t>(item));
    }
};

template <class Order>
void write(std::vector<Tile<Order>>& tiles, std::size_t k, const Found<typename Order::Score>& found) {
    for (Tile<Order>& tile : tiles)
        for (std::size_t q = 0; q < tile.members.size(); ++q)
            tile.best[q].write(found.scores + tile.members[q] * k, found.rows + tile.members[q] * k);
}

// run(groups, list, tile) calls the kernel for one query.
template <class Order, class Entry, class Run>
void scan_labels(const Layout& layout, const Rows& rows, const Wanted<typename Order::Score>& wanted,
                 const Labels& labels, const Found<typename Order::Score>& found, const Run& run) {
    const std::uint32_t member = 0;
    std::vector<LabelTile<Order, Entry>> tiles;
    tiles.emplace_back(std::span<const std::uint32_t>(&member, 1), wanted, labels);
    Lists lists;
    scan(layout, rows, tiles, lists, [&](std::size_t t, const Groups& groups, std::span<const std::uint32_t> list) {
        run(groups, list, tiles[t]);
    });
    tiles[0].best_of_labels.write(found.scores, found.rows);
}

template <class Order, class Run>
void top_labels(const Layout& layout, const Rows& rows, const Wanted<typename Order::Score>& wanted,
                const Labels& labels, const Found<typename Order::Score>& found, const Run& run) {
    if (labels.ranks)
        scan_labels<Order, RankedEntry>(layout, rows, wanted, labels, found, run);
    else
        scan_labels<Order, std::uint64_t>(layout, rows, wanted, labels, found, run);
}

}  // namespace

void dot_top_k(const Kernels& kernels, const Layout& layout, const Rows& rows, const DotQueries& queries,
               const Wanted<float>& wanted, const Found<float>& found) {
    const std::vector<std::uint32_t> order = order_by_mask(wanted);
    std::vector<Tile<HighestScore>> tiles;
    std::vector<PackedDotTile> packed;
    for (std::span<const std::uint32_t> members : cut(order, kernels.dot_tile)) {
        tiles.emplace_back(members, wanted);
        packed.emplace_back(layout, queries, members);
    }
    Lists lists;
    scan(layout, rows, tiles, lists, [&](std::size_t t, const Groups& groups, std::span<const std::uint32_t> list) {
        const auto kernel = kernels.dot[tiles[t].members.size()];
        kernel(layout.view(), packed[t].view(), groups, list.data(), list.size(), tiles[t]);
    });
    write(tiles, wanted.k, found);
}

void hamming_top_k(const Kernels& kernels, const Layout& layout, const Rows& rows, const std::uint8_t* query_codes,
                   const Wanted<std::int32_t>& wanted, const Found<std::int32_t>& found) {
    const std::vector<std::uint32_t> order = order_by_mask(wanted);
    std::vector<Tile<LowestDistance>> tiles;
    std::vector<PackedHammingTile> packed;
    for (std::span<const std::uint32_t> members : cut(order, kernels.hamming_tile)) {
        tiles.emplace_back(members, wanted);
        packed.emplace_back(layout, query_codes, members);
    }
    Lists lists;
    scan(layout, rows, tiles, lists, [&](std::size_t t, const Groups& groups, std::span<const std::uint32_t> list) {
        const auto kernel = kernels.hamming[tiles[t].members.size()];
        kernel(layout.view(), packed[t].view(), groups, list.data(), list.size(), tiles[t]);
    });
    write(tiles, wanted.k, found);
}

void dot_top_labels(const Kernels& kernels, const Layout& layout, const Rows& rows, const DotQueries& query,
                    const Wanted<float>& wanted, const Labels& labels, const Found<float>& found) {
    const std::uint32_t member = 0;
    const PackedDotTile packed(layout, query, {&member, 1});
    top_labels<HighestScore>(layout, rows, wanted, labels, found,
                             [&](const Groups& groups, std::span<const std::uint32_t> list, Sink<float>& tile) {
                                 kernels.dot[1](layout.view(), packed.view(), groups, list.data(), list.size(), tile);
                             });
}

void hamming_top_labels(const Kernels& kernels, const Layout& layout, const Rows& rows,
                        const std::uint8_t* query_code, const Wanted<std::int32_t>& wanted, const Labels& labels,
                        const Found<std::int32_t>& found) {
    const std::uint32_t member = 0;
    const PackedHammingTile packed(layout, query_code, {&member, 1});
    top_labels<LowestDistance>(
        layout, rows, wanted, labels, found,
        [&](const Groups& groups, std::span<const std::uint32_t> list, Sink<std::int32_t>& tile) {
            kernels.hamming[1](layout.view(), packed.view(), groups, list.data(), list.size(), tile);
        });
}

}  // namespace bebr
