// Ranges of rows of a part: the lists. Neighbouring lists share a group of 16 rows, of which each takes its lanes.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
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
class RangeRows {
public:
    RangeRows(const Part& part) : layout(part.layout), rows(part.rows), place(part.place) {
        const std::size_t rest = rows.count % kGroupRows;
        std::copy_n(rows.gains + rows.count - rest, rest, last_gains);
    }

    const Layout* layout;
    Rows rows;
    std::uint32_t place;
    std::uint16_t last_gains[kGroupRows] = {};
};

// Up to kMaxTile queries that read ranges together.
struct RangeTile : Sink<float> {
    std::size_t size = 0;
    ListBest* best[kMaxTile];
    const std::uint16_t* masks[kMaxTile];
    std::uint32_t place = 0;
    std::size_t first_group = 0;

    RangeTile() {
        this->live = nullptr;
        this->offer = &take;
    }

    void add(ListBest& of_query, const std::uint16_t* mask) {
        best[size] = &of_query;
        masks[size] = mask;
        bounds[size++] = of_query.bound();
    }

    static void take(Sink<float>& sink, int query, std::uint32_t group, std::uint32_t lanes, const float* scores) {
        auto& tile = static_cast<RangeTile&>(sink);
        const std::size_t absolute = tile.first_group + group;
        if (tile.masks[query]) lanes &= tile.masks[query][absolute];
        for (; lanes; lanes &= lanes - 1) {
            const int lane = std::countr_zero(lanes);
            if (!(scores[lane] >= tile.bounds[query])) continue;
            tile.best[query]->push(scores[lane], tile.place, static_cast<std::uint32_t>(absolute * kGroupRows + lane));
            tile.bounds[query] = tile.best[query]->bound();
        }
    }
};

// Scans ranges with a tile of queries.
class RangeScan {
public:
    explicit RangeScan(const Kernels& kernels) : kernels_(kernels) {}

    void scan(const RangeRows& part, std::size_t begin, std::size_t end, const DotTile& packed, RangeTile& tile) {
        tile.place = part.place;
        const std::size_t full_groups = part.rows.count / kGroupRows;
        std::size_t first = begin / kGroupRows;
        const std::size_t end_group = (end + kGroupRows - 1) / kGroupRows;
        while (first < end_group) {
            std::size_t last = std::min(end_group, first + kGroupsTogether);
            if (first < full_groups) last = std::min(last, full_groups);
            call(part, first, last, begin, end, packed, tile);
            first = last;
        }
    }

private:
    static constexpr std::size_t kGroupsTogether = 512;

    // Groups first .. last, which are all full, or the one that is not.
    void call(const RangeRows& part, std::size_t first, std::size_t last, std::size_t begin, std::size_t end,
              const DotTile& packed, RangeTile& tile) {
        std::size_t count = 0;
        for (std::size_t group = first; group < last; ++group) {
            const std::uint32_t lanes = lanes_within(group, begin, end) & wanted(tile, group);
            lanes_[group - first] = static_cast<std::uint16_t>(lanes);
            groups_[count] = static_cast<std::uint32_t>(group - first);
            count += lanes != 0;
        }
        tile.first_group = first;
        tile.live = lanes_;
        const bool full = (first + 1) * kGroupRows <= part.rows.count;
        const Groups groups{part.rows.words + first * part.layout->group_words(),
                            full ? part.rows.gains + first * kGroupRows : part.last_gains};
        kernels_.dot[tile.size](part.layout->view(), packed, groups, groups_, count, tile);
    }

    static std::uint32_t wanted(const RangeTile& tile, std::size_t group) {
        std::uint32_t lanes = 0;
        for (std::size_t q = 0; q < tile.size; ++q) lanes |= tile.masks[q] ? tile.masks[q][group] : 0xffffu;
        return lanes;
    }

    const Kernels& kernels_;
    std::uint16_t lanes_[kGroupsTogether];
    std::uint32_t groups_[kGroupsTogether];
};

}  // namespace bebr
