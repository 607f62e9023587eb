// The kernel that finds the best of many queries for each row, written once for every instruction set.
#pragma once

#include "dot_tile.hpp"
#include "kernels.hpp"
#include "tile.hpp"

namespace bebr {

// Scores Q queries against G groups, and keeps the best of each row: the scores of the dot kernel, without gains.
template <class Simd, int Q, int G>
BEBR_INLINE void keep_best_queries(const Blocks& layout, const DotTile& tile, const std::uint32_t* words,
                                   std::int32_t first, float* best, std::int32_t* numbers) {
    constexpr int kVectors = G * Simd::kVectors;
    constexpr int kLanes = kGroupRows / Simd::kVectors;
    Cursor<G> at;
    BEBR_EACH(g, G) at.at[g] = words + g * (layout.words * kGroupRows);
    typename Simd::Floats scores[Q][kVectors];
    sum_groups<Simd, Q, G>(layout, tile, at, at, scores);
    BEBR_EACH(v, kVectors) {
        auto best_score = Simd::load(best + v * kLanes);
        auto number = Simd::load(numbers + v * kLanes);
        BEBR_EACH(q, Q) Simd::keep_best(best_score, number, scores[q][v], first + q);
        Simd::store(best + v * kLanes, best_score);
        Simd::store(numbers + v * kLanes, number);
    }
}

template <class Simd>
void assign(const Blocks& layout, const DotTile& tile, const std::uint32_t* words, std::size_t groups,
            std::int32_t first, float* best, std::int32_t* numbers) {
    constexpr int Q = Simd::kDotTile, G = Simd::template kDotGroups<Q>;
    const std::size_t group_words = layout.words * kGroupRows;
    std::size_t g = 0;
    for (; g + G <= groups; g += G)
        keep_best_queries<Simd, Q, G>(layout, tile, words + g * group_words, first, best + g * kGroupRows,
                                      numbers + g * kGroupRows);
    if constexpr (G > 1) {
        for (; g < groups; ++g)
            keep_best_queries<Simd, Q, 1>(layout, tile, words + g * group_words, first, best + g * kGroupRows,
                                          numbers + g * kGroupRows);
    }
}

}  // namespace bebr
