// Turns a `Simd` (see kernels_*.cpp) into the table of its kernels.
#pragma once

#include "assign_tile.hpp"
#include "centroid_tile.hpp"
#include "dot_tile.hpp"
#include "hamming_tile.hpp"
#include "kernels.hpp"
#include "project_tile.hpp"
#include "rescore_tile.hpp"

namespace bebr {

// Reads `size` bytes (of which whole 256-byte steps count) as fast as memory gives them: what a scan is measured by.
template <class Simd>
std::uint64_t checksum(const std::uint8_t* bytes, std::size_t size) {
    const auto* words = reinterpret_cast<const std::uint32_t*>(bytes);
    typename Simd::Words sums[4 * Simd::kVectors] = {};
    for (std::size_t i = 0; i + 4 * kGroupRows <= size / 4; i += 4 * kGroupRows) {
        BEBR_EACH(line, 4) {
            const std::uint32_t* at = words + i + line * kGroupRows;
            prefetch(at + kPrefetchBytes / 4);
            BEBR_EACH(part, Simd::kVectors) {
                auto& sum = sums[line * Simd::kVectors + part];
                sum = Simd::exclusive(sum, Simd::load(at, part));
            }
        }
    }
    for (int i = 1; i < 4 * Simd::kVectors; ++i) sums[0] = Simd::exclusive(sums[0], sums[i]);
    return Simd::reduce(sums[0]);
}

template <class Simd, int Q>
constexpr void fill_dot(Kernels& kernels) {
    kernels.dot[Q] = &dot<Simd, Q>;
    if constexpr (Q > 1) fill_dot<Simd, Q - 1>(kernels);
}

template <class Simd, int Q>
constexpr void fill_hamming(Kernels& kernels) {
    kernels.hamming[Q] = &hamming<Simd, Q>;
    if constexpr (Q > 1) fill_hamming<Simd, Q - 1>(kernels);
}

template <class Simd, int Q>
constexpr void fill_centroids(Kernels& kernels) {
    kernels.centroids[Q] = &centroids<Simd, Q>;
    if constexpr (Q > 1) fill_centroids<Simd, Q - 1>(kernels);
}

template <class Simd>
constexpr Kernels make_kernels(const char* name) {
    Kernels kernels{};
    kernels.name = name;
    kernels.dot_tile = Simd::kDotTile;
    kernels.hamming_tile = Simd::kHammingTile;
    fill_dot<Simd, Simd::kDotTile>(kernels);
    fill_hamming<Simd, Simd::kHammingTile>(kernels);
    kernels.assign = &assign<Simd>;
    kernels.centroid_tile = Simd::kCentroidTile;
    fill_centroids<Simd, Simd::kCentroidTile>(kernels);
    kernels.project = &project<Simd>;
    kernels.column_products = &column_products<Simd>;
    kernels.level_products = &level_products<Simd>;
    kernels.checksum = &checksum<Simd>;
    return kernels;
}

}  // namespace bebr
