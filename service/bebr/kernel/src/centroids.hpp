// The centroids of lists (see bebr.core.lists), packed once for the scans of all queries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels.hpp"
#include "layout.hpp"
#include "memory.hpp"
#include "queries.hpp"

namespace bebr {

class CentroidTable {
public:
    // values (lists, dims), scales (lists, blocks).
    CentroidTable(const Layout& layout, const std::int8_t* values, const float* scales, std::size_t lists,
                  std::uint32_t generation);

    std::size_t lists() const { return lists_; }
    std::size_t padded_lists() const { return (lists_ + kGroupRows - 1) / kGroupRows * kGroupRows; }
    std::uint32_t generation() const { return generation_; }
    std::uint32_t dims() const { return dims_; }

    // scores[q]: room for padded_lists(), aligned to 64 bytes.
    void score(const Kernels& kernels, const DotQueries& queries, std::span<float* const> scores) const;

private:
    DotTile pack(const DotQueries& queries, std::size_t first, std::size_t count,
                 std::vector<std::int32_t>& values, std::vector<std::int32_t>& offsets,
                 std::vector<float>& scales) const;

    std::vector<std::uint32_t> block_dims_, block_words_;
    std::uint32_t dims_, group_words_ = 0, generation_;
    std::size_t lists_;
    Memory words_, scales_;
};

}  // namespace bebr
