#include "centroids.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace bebr {
namespace {

// As bebr.core.lists: one of so many cells is scored first.
constexpr std::size_t kFirstCells = 4;

// Four values of a block from dimension `first` on; zero past its last dimension.
std::uint32_t word_of(const std::int8_t* values, std::uint32_t first, std::uint32_t dims) {
    std::uint32_t word = 0;
    std::memcpy(&word, values + first, std::min(4u, dims - first));
    return word;
}

}  // namespace

CentroidTable::CentroidTable(const Layout& layout, const std::int8_t* values, const float* scales, std::size_t lists,
                             std::uint32_t generation, Cells cells)
    : dims_(layout.dims), generation_(generation), lists_(lists), cells_(std::move(cells)) {
    for (const Block& block : layout.blocks) {
        block_dims_.push_back(block.dims);
        block_words_.push_back((block.dims + 3) / 4);
        group_words_ += block_words_.back();
    }
    const std::size_t blocks = block_dims_.size(), padded = padded_lists();
    words_.reset(new Allocation(allocate(padded * group_words_ * sizeof(std::uint32_t))));
    scales_.reset(new Allocation(allocate(padded * blocks * sizeof(float))));
    auto* const packed = reinterpret_cast<std::uint32_t*>(words_->bytes);
    auto* const packed_scales = reinterpret_cast<float*>(scales_->bytes);
    for (std::size_t list = 0; list < lists; ++list) {
        const std::size_t group = list / kGroupRows, lane = list % kGroupRows;
        std::uint32_t* at = packed + group * group_words_ * kGroupRows + lane;
        const std::int8_t* of_block = values + list * dims_;
        for (std::size_t b = 0; b < blocks; ++b) {
            for (std::uint32_t word = 0; word < block_words_[b]; ++word, at += kGroupRows)
                *at = word_of(of_block, 4 * word, block_dims_[b]) ^ 0x80808080u;  // + 128
            packed_scales[(group * blocks + b) * kGroupRows + lane] = scales[list * blocks + b];
            of_block += block_dims_[b];
        }
    }
}

DotTile CentroidTable::pack(const DotQueries& queries, std::size_t first, std::size_t count,
                            std::vector<std::int32_t>& values, std::vector<std::int32_t>& offsets,
                            std::vector<float>& scales) const {
    const std::size_t blocks = block_dims_.size();
    values.clear(), offsets.clear(), scales.clear();
    std::uint32_t first_dim = 0;
    for (std::size_t b = 0; b < blocks; ++b) {
        for (std::uint32_t word = 0; word < block_words_[b]; ++word)
            for (std::size_t q = first; q < first + count; ++q)
                values.push_back(static_cast<std::int32_t>(
                    word_of(queries.values + q * dims_ + first_dim, 4 * word, block_dims_[b])));
        for (std::size_t q = first; q < first + count; ++q) {
            const std::int8_t* of_block = queries.values + q * dims_ + first_dim;
            offsets.push_back(-128 * std::accumulate(of_block, of_block + block_dims_[b], std::int32_t{0}));
            scales.push_back(queries.scales[q * blocks + b]);
        }
        first_dim += block_dims_[b];
    }
    return {values.data(), offsets.data(), scales.data()};
}

CentroidGroups CentroidTable::groups(std::size_t first, std::size_t count) const {
    const std::size_t blocks = block_words_.size();
    return {reinterpret_cast<const std::uint32_t*>(words_->bytes) + first * group_words_ * kGroupRows,
            reinterpret_cast<const float*>(scales_->bytes) + first * blocks * kGroupRows,
            block_words_.data(),
            static_cast<std::uint32_t>(blocks),
            group_words_,
            count};
}

void CentroidTable::score(const Kernels& kernels, const DotQueries& queries, std::span<float* const> scores) const {
    const CentroidGroups all = groups(0, padded_lists() / kGroupRows);
    std::vector<std::int32_t> values, offsets;
    std::vector<float> tile_scales;
    for (std::size_t first = 0; first < scores.size(); first += kernels.centroid_tile) {
        const std::size_t count = std::min<std::size_t>(kernels.centroid_tile, scores.size() - first);
        const DotTile tile = pack(queries, first, count, values, offsets, tile_scales);
        kernels.centroids[count](all, tile, scores.data() + first);
    }
}

bool CentroidTable::score_best(const Kernels& kernels, const DotQueries& query, std::size_t stage, float* scores,
                               std::size_t first_list, std::vector<ScoredLists>& found) const {
    const std::size_t cells = has_cells() ? cells_.begin.size() - 1 : 1;
    const std::size_t wanted = std::min(cells, std::max<std::size_t>(1, cells / kFirstCells) << std::min<std::size_t>(stage, 32));
    if (wanted == cells) {
        score(kernels, query, {&scores, 1});
        found.push_back({first_list, {scores, lists_}});
        return true;
    }
    const Memory memory(new Allocation(allocate(cells_.centroids->padded_lists() * sizeof(float))));
    auto* of_cells = reinterpret_cast<float*>(memory->bytes);
    cells_.centroids->score(kernels, query, {&of_cells, 1});
    std::vector<std::uint32_t> order(cells);
    std::iota(order.begin(), order.end(), 0);
    std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(wanted), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) {
                         return of_cells[a] > of_cells[b] || (of_cells[a] == of_cells[b] && a < b);
                     });
    std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(wanted));
    std::vector<std::int32_t> values, offsets;
    std::vector<float> tile_scales;
    const DotTile tile = pack(query, 0, 1, values, offsets, tile_scales);
    for (std::size_t i = 0; i < wanted;) {
        const std::size_t begin = cells_.begin[order[i]];
        while (++i < wanted && order[i] == order[i - 1] + 1) {}  // cells that follow each other
        const std::size_t end = cells_.begin[order[i - 1] + 1];
        if (begin == end) continue;
        const std::size_t group = begin / kGroupRows;
        float* at = scores + group * kGroupRows;
        kernels.centroids[1](groups(group, (end + kGroupRows - 1) / kGroupRows - group), tile, &at);
        found.push_back({first_list + begin, {scores + begin, end - begin}});
    }
    return false;
}

}  // namespace bebr
