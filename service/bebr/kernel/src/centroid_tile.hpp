// The kernel that scores centroids of lists, written once for every instruction set (`Simd`, see kernels_*.cpp).
//
//   score = ((0 + (scale_0 * centroid's scale_0) * sum_0) + ...)       in float32, in this order
//   sum_b = sum of q * value = sum of q * (value + 128) - 128 * sum of q
//
// A value + 128 is an unsigned byte. Where sums of two products of such a byte would overflow, its halves are summed
// apart, each as a level of 4 bits.
#pragma once

#include "kernels.hpp"
#include "tile.hpp"

namespace bebr {

// Sums q * (value + 128) over one block of G groups; `words` stand at its first word.
template <class Simd, int Q, int G>
BEBR_INLINE void sum_bytes(std::uint32_t words_in_block, const std::int32_t* values, Cursor<G> words,
                           std::size_t words_ahead, typename Simd::Sums (&sums)[Q][G * Simd::kVectors]) {
    constexpr int kVectors = G * Simd::kVectors;
    constexpr std::uint32_t kStep = Simd::template kWordsPerPartial<4>;
    typename Simd::Sums high[Q][kVectors];
    BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) sums[q][v] = high[q][v] = Simd::no_sum();
    for (std::uint32_t first = 0; first < words_in_block; first += kStep) {
        const std::uint32_t count = words_in_block - first < kStep ? words_in_block - first : kStep;
        typename Simd::Partial partial[Q][kVectors], partial_high[Q][kVectors];
        BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) partial[q][v] = partial_high[q][v] = Simd::no_partial();
        for (std::uint32_t word = 0; word < count; ++word) {
            typename Simd::Words loaded[kVectors];
            BEBR_EACH(v, kVectors) loaded[v] = Simd::load(words.at[v / Simd::kVectors], v % Simd::kVectors);
            BEBR_EACH(g, G) prefetch(words.at[g] + words_ahead);
            BEBR_EACH(q, Q) {
                const auto value = Simd::broadcast(values[q]);
                BEBR_EACH(v, kVectors) {
                    if constexpr (Simd::kFieldsInPlace) {
                        partial[q][v] = Simd::dot(partial[q][v], loaded[v], value);
                    } else {
                        partial[q][v] = Simd::dot(partial[q][v], Simd::template levels<4>(loaded[v], 0), value);
                        partial_high[q][v] =
                            Simd::dot(partial_high[q][v], Simd::template levels<4>(loaded[v], 1), value);
                    }
                }
            }
            values += Q;
            advance(words, 1);
        }
        BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) {
            sums[q][v] = Simd::widen(sums[q][v], partial[q][v]);
            if constexpr (!Simd::kFieldsInPlace) high[q][v] = Simd::widen(high[q][v], partial_high[q][v]);
        }
    }
    if constexpr (!Simd::kFieldsInPlace) {
        BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) {
            BEBR_EACH(doubled, 4) high[q][v] = Simd::add(high[q][v], high[q][v]);
            sums[q][v] = Simd::add(sums[q][v], high[q][v]);
        }
    }
}

// Scores Q queries against the centroids of groups first .. first + G.
template <class Simd, int Q, int G>
BEBR_INLINE void score_centroids(const CentroidGroups& table, const DotTile& tile, std::size_t first,
                                 float* const* scores) {
    constexpr int kVectors = G * Simd::kVectors;
    constexpr int kLanes = kGroupRows / Simd::kVectors;
    Cursor<G> words;
    BEBR_EACH(g, G) words.at[g] = table.words + (first + g) * table.group_words * kGroupRows;
    const float* scales[G];
    BEBR_EACH(g, G) scales[g] = table.scales + (first + g) * table.blocks * kGroupRows;
    const std::int32_t* values = tile.values;
    typename Simd::Floats total[Q][kVectors];
    BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) total[q][v] = Simd::no_score();
    for (std::uint32_t b = 0; b < table.blocks; ++b) {
        typename Simd::Sums sums[Q][kVectors];
        sum_bytes<Simd, Q, G>(table.block_words[b], values, words, G * table.group_words * kGroupRows, sums);
        BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) {
            const auto of_centroids =
                Simd::load(scales[v / Simd::kVectors] + b * kGroupRows + v % Simd::kVectors * kLanes);
            total[q][v] =
                Simd::add_weighted(total[q][v], sums[q][v], tile.offsets[b * Q + q], tile.scales[b * Q + q], of_centroids);
        }
        values += table.block_words[b] * Q;
        advance(words, table.block_words[b]);
    }
    BEBR_EACH(q, Q) BEBR_EACH(v, kVectors)
        Simd::store(scores[q] + (first + v / Simd::kVectors) * kGroupRows + v % Simd::kVectors * kLanes, total[q][v]);
}

template <class Simd, int Q>
void centroids(const CentroidGroups& table, const DotTile& tile, float* const* scores) {
    constexpr int G = Simd::template kCentroidGroups<Q>;
    std::size_t group = 0;
    for (; group + G <= table.groups; group += G) score_centroids<Simd, Q, G>(table, tile, group, scores);
    if constexpr (G > 1) {
        for (; group < table.groups; ++group) score_centroids<Simd, Q, 1>(table, tile, group, scores);
    }
}

}  // namespace bebr
