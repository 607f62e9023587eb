// The centroids of lists (see bebr.core.lists), packed once for the scans of all queries.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels.hpp"
#include "layout.hpp"
#include "memory.hpp"
#include "queries.hpp"

namespace bebr {

// Scores of lists that follow each other.
struct ScoredLists {
    std::size_t first;  // its number among all lists
    std::span<const float> scores;
};

class CentroidTable;

// Cells, each a range of lists: cell c has the lists begin[c] .. begin[c + 1].
struct Cells {
    std::shared_ptr<const CentroidTable> centroids;
    std::vector<std::uint32_t> begin;
};

class CentroidTable {
public:
    // values (lists, dims), scales (lists, blocks).
    CentroidTable(const Layout& layout, const std::int8_t* values, const float* scales, std::size_t lists,
                  std::uint32_t generation, Cells cells = {});

    std::size_t lists() const { return lists_; }
    std::size_t padded_lists() const { return (lists_ + kGroupRows - 1) / kGroupRows * kGroupRows; }
    std::uint32_t generation() const { return generation_; }
    std::uint32_t dims() const { return dims_; }
    bool has_cells() const { return !cells_.begin.empty(); }

    // scores[q]: room for padded_lists(), aligned to 64 bytes.
    void score(const Kernels& kernels, const DotQueries& queries, std::span<float* const> scores) const;

    // Scores the lists of the best cells for one query: of all cells, or of a few first and of twice as many at every later
    // stage; see bebr.core.lists. `scores` as above. Adds what is scored, whose lists count from `first_list` on. Whether
    // those are all.
    bool score_best(const Kernels& kernels, const DotQueries& query, std::size_t stage, float* scores,
                    std::size_t first_list, std::vector<ScoredLists>& found) const;

private:
    CentroidGroups groups(std::size_t first, std::size_t count) const;
    DotTile pack(const DotQueries& queries, std::size_t first, std::size_t count,
                 std::vector<std::int32_t>& values, std::vector<std::int32_t>& offsets,
                 std::vector<float>& scales) const;

    std::vector<std::uint32_t> block_dims_, block_words_;
    std::uint32_t dims_, group_words_ = 0, generation_;
    std::size_t lists_;
    Cells cells_;
    Memory words_, scales_;
};

}  // namespace bebr
