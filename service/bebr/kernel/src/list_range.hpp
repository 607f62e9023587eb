// Ranges of rows of parts, which are the lists, and the order in which they are scanned. Neighbouring lists share a group of
// 16 rows, of which each takes its lanes.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "list_best.hpp"
#include "queries.hpp"

namespace bebr {

// The lanes of a group that lie in rows begin .. end.
inline std::uint32_t lanes_within(std::size_t group, std::size_t begin, std::size_t end) {
    const std::size_t first = group * kGroupRows;
    std::uint32_t lanes = 0xffff;
    if (first < begin) lanes &= 0xffffu << (begin - first);
    if (first + kGroupRows > end) lanes &= 0xffffu >> (first + kGroupRows - end);
    return lanes & 0xffff;
}

// How many rows of begin .. end a mask (one bit per row, or null: all) has.
inline std::size_t count_rows(const std::uint16_t* mask, std::size_t begin, std::size_t end) {
    if (begin >= end) return 0;
    if (!mask) return end - begin;
    std::size_t count = 0;
    const std::size_t last = (end - 1) / kGroupRows;
    for (std::size_t group = begin / kGroupRows; group <= last; ++group)
        count += std::popcount(mask[group] & lanes_within(group, begin, end));
    return count;
}

// Rows of one part that queries read: codes, and gains of which a last group that is not full has a copy of its own.
struct RangeRows {
    explicit RangeRows(const Part& part) : layout(part.layout), rows(part.rows), place(part.place) {
        const std::size_t rest = rows.count % kGroupRows;
        std::copy_n(rows.gains + rows.count - rest, rest, last_gains);
    }

    const Layout* layout;
    Rows rows;
    std::uint32_t place;
    std::uint16_t last_gains[kGroupRows] = {};
};

// A row that a query found in the list at some position of its order.
struct ListHit {
    std::uint32_t position;
    float score;
    std::uint32_t place;
    std::uint32_t row;
};

// Up to kMaxTile queries that read ranges together. What they find goes to the best rows of each, or to a list of hits.
struct RangeTile : Sink<float> {
    std::size_t size = 0;
    ListBest* best[kMaxTile];
    std::vector<ListHit>* hits[kMaxTile];
    std::uint32_t positions[kMaxTile];
    const std::uint16_t* masks[kMaxTile];
    std::uint32_t place = 0;
    std::size_t first_group = 0;

    RangeTile() {
        this->live = nullptr;
        this->offer = &take;
    }

    void add(ListBest& of_query, std::vector<ListHit>* hits_of_query = nullptr, std::uint32_t position = 0) {
        best[size] = &of_query;
        hits[size] = hits_of_query;
        positions[size] = position;
        bounds[size++] = of_query.bound();
    }

    static void take(Sink<float>& sink, int query, std::uint32_t group, std::uint32_t lanes, const float* scores) {
        auto& tile = static_cast<RangeTile&>(sink);
        const std::size_t absolute = tile.first_group + group;
        if (tile.masks[query]) lanes &= tile.masks[query][absolute];
        for (; lanes; lanes &= lanes - 1) {
            const int lane = std::countr_zero(lanes);
            if (!(scores[lane] >= tile.bounds[query])) continue;
            const auto row = static_cast<std::uint32_t>(absolute * kGroupRows + lane);
            if (tile.hits[query]) {
                tile.hits[query]->push_back({tile.positions[query], scores[lane], tile.place, row});
            } else {
                tile.best[query]->push(scores[lane], tile.place, row);
                tile.bounds[query] = tile.best[query]->bound();
            }
        }
    }
};

// Ranges in the order in which they are scanned. Memory is asked for across their borders: most are short.
class RangePlan {
public:
    RangePlan(const Kernels& kernels, const Layout& layout)
        : kernels_(kernels), layout_(layout), distance_(kAheadBytes / (layout.group_words() * sizeof(std::uint32_t)) + 1) {}

    void clear() {
        pieces_.clear(), groups_.clear(), lanes_.clear(), ahead_.clear();
    }

    std::size_t pieces() const { return pieces_.size(); }

    const RangeRows* part_of(std::size_t piece) const { return pieces_[piece].part; }
    // The rows of its groups: from, to.
    std::pair<std::size_t, std::size_t> rows_of(std::size_t piece) const {
        const Piece& one = pieces_[piece];
        const std::size_t last = one.first_group + groups_[one.groups_at + one.count - 1] + 1;
        return {one.first_group * kGroupRows, std::min(last * kGroupRows, one.part->rows.count)};
    }

    // Whether enough is planned to ask for memory while all pieces before this one are scanned.
    bool reaches(std::size_t piece) const {
        return piece < pieces_.size() && groups_.size() >= pieces_[piece].groups_at + distance_;
    }

    // The rows begin .. end that any of the masks has.
    void add(const RangeRows& part, std::size_t begin, std::size_t end, std::span<const std::uint16_t* const> masks) {
        if (begin == end) return;
        const std::size_t first = begin / kGroupRows, last = (end + kGroupRows - 1) / kGroupRows;
        const std::size_t full = std::min(last, part.rows.count / kGroupRows);
        if (first < full) add_groups(part, first, full, begin, end, masks);
        if (full < last) add_groups(part, full, last, begin, end, masks);
    }

    void scan(std::size_t piece, const DotTile& packed, RangeTile& tile) {
        const Piece& one = pieces_[piece];
        const RangeRows& part = *one.part;
        ahead_.resize(std::max(ahead_.size(), one.groups_at + one.count + distance_), part.rows.words);
        tile.place = part.place;
        tile.first_group = one.first_group;
        tile.live = lanes_.data() + one.lanes_at;
        const bool full = (one.first_group + 1) * kGroupRows <= part.rows.count;
        const Groups groups{part.rows.words + one.first_group * layout_.group_words(),
                            full ? part.rows.gains + one.first_group * kGroupRows : part.last_gains,
                            ahead_.data() + one.groups_at + distance_};
        kernels_.dot[tile.size](layout_.view(), packed, groups, groups_.data() + one.groups_at, one.count, tile);
    }

private:
    static constexpr std::size_t kAheadBytes = 8192;

    struct Piece {
        const RangeRows* part;
        std::size_t first_group;
        std::size_t groups_at, count, lanes_at;
    };

    // Groups first .. last, which are all full, or the one that is not.
    void add_groups(const RangeRows& part, std::size_t first, std::size_t last, std::size_t begin, std::size_t end,
                    std::span<const std::uint16_t* const> masks) {
        const std::size_t groups_at = groups_.size(), lanes_at = lanes_.size();
        lanes_.resize(lanes_at + (last - first), 0xffff);
        std::uint16_t* const lanes = lanes_.data() + lanes_at;
        lanes[0] &= static_cast<std::uint16_t>(lanes_within(first, begin, end));
        lanes[last - first - 1] &= static_cast<std::uint16_t>(lanes_within(last - 1, begin, end));
        const bool all = std::find(masks.begin(), masks.end(), nullptr) != masks.end();
        for (std::size_t group = first; !all && group < last; ++group) {
            std::uint32_t any = 0;
            for (const std::uint16_t* mask : masks) any |= mask[group];
            lanes[group - first] &= static_cast<std::uint16_t>(any);
        }
        groups_.resize(groups_at + (last - first));
        ahead_.resize(groups_.size());
        std::size_t count = groups_at;
        const std::uint32_t* words = part.rows.words + first * layout_.group_words();
        for (std::size_t group = first; group < last; ++group, words += layout_.group_words()) {
            groups_[count] = static_cast<std::uint32_t>(group - first);
            ahead_[count] = words;
            count += lanes[group - first] != 0;
        }
        groups_.resize(count);
        ahead_.resize(count);
        if (count == groups_at) return lanes_.resize(lanes_at);
        for (std::size_t row = first * kGroupRows; row < std::min(last * kGroupRows, part.rows.count); row += 32)
            __builtin_prefetch(part.rows.gains + row);
        pieces_.push_back({&part, first, groups_at, count - groups_at, lanes_at});
    }

    const Kernels& kernels_;
    const Layout& layout_;
    std::size_t distance_;  // in groups
    std::vector<Piece> pieces_;
    std::vector<std::uint32_t> groups_;  // to scan, counted from the first one of their piece
    std::vector<std::uint16_t> lanes_;   // of all groups of a piece
    std::vector<const std::uint32_t*> ahead_;  // where these groups lie
};

}  // namespace bebr
