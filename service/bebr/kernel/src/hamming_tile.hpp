// The hamming kernel, written once for every instruction set (`Simd`, see simd_*.hpp).
//
// Only the top bit of each level counts. In a block of B bits these are 32 / B bits of every word, so the sign bits of
// B words are first merged into one sign word (once for all Q queries), and each query then pays one xor and popcount
// per sign word.
#pragma once

#include "kernels.hpp"
#include "tile.hpp"

namespace bebr {

// Adds the distances of one block to `distances`. masks is [word], values [sign word][query].
template <class Simd, int Bits, int Q, int G>
BEBR_INLINE void count_block(const Block& block, const std::uint32_t* masks, const std::uint32_t* values,
                             const std::uint32_t* const (&groups)[G], const std::uint32_t* ahead,
                             typename Simd::Sums (&distances)[Q][G * Simd::kVectors]) {
    constexpr int kVectors = G * Simd::kVectors;
    constexpr std::uint32_t kStep = Simd::kWordsPerCount * Bits;
    for (std::uint32_t first = 0; first < block.words; first += kStep) {
        const std::uint32_t end = block.words - first < kStep ? block.words : first + kStep;
        typename Simd::Partial counts[Q][kVectors];
        BEBR_UNROLL for (int q = 0; q < Q; ++q)
            BEBR_UNROLL for (int v = 0; v < kVectors; ++v) counts[q][v] = Simd::no_partial();
        for (std::uint32_t word = first; word < end; word += Bits) {
            typename Simd::Words signs[kVectors];
            BEBR_UNROLL for (int i = 0; i < Bits; ++i) {
                if (i > 0 && word + i >= end) break;
                const std::size_t at = (block.first_word + word + i) * kGroupRows;
                if constexpr (Q == 1) prefetch(ahead + at);
                const auto mask = Simd::broadcast(static_cast<std::int32_t>(masks[word + i]));
                BEBR_UNROLL for (int v = 0; v < kVectors; ++v) {
                    const auto words = Simd::load(groups[v / Simd::kVectors] + at, v % Simd::kVectors);
                    const auto bits = Simd::shift_right(Simd::both(words, mask), i);
                    signs[v] = i == 0 ? bits : Simd::either(signs[v], bits);
                }
            }
            BEBR_UNROLL for (int q = 0; q < Q; ++q) {
                const auto value = Simd::broadcast(static_cast<std::int32_t>(values[q]));
                BEBR_UNROLL for (int v = 0; v < kVectors; ++v)
                    counts[q][v] = Simd::count_differing(counts[q][v], signs[v], value);
            }
            values += Q;
        }
        BEBR_UNROLL for (int q = 0; q < Q; ++q)
            BEBR_UNROLL for (int v = 0; v < kVectors; ++v)
                distances[q][v] = Simd::widen_counts(distances[q][v], counts[q][v]);
    }
}

// Measures Q queries against the G groups list[0..G) and offers what is within the bounds.
template <class Simd, int Q, int G>
BEBR_INLINE void measure_groups(const Blocks& layout, const HammingTile& tile, const Groups& groups,
                                const std::uint32_t* list, std::uint32_t group_ahead, Sink<std::int32_t>& sink) {
    constexpr int kVectors = G * Simd::kVectors;
    const std::uint32_t* words[G];
    BEBR_UNROLL for (int g = 0; g < G; ++g) words[g] = groups.words + list[g] * group_words(layout);
    const std::uint32_t* ahead = groups.words + group_ahead * group_words(layout);

    typename Simd::Sums distances[Q][kVectors];
    BEBR_UNROLL for (int q = 0; q < Q; ++q)
        BEBR_UNROLL for (int v = 0; v < kVectors; ++v) distances[q][v] = Simd::no_sum();
    const std::uint32_t* masks = tile.masks;
    const std::uint32_t* values = tile.values;
    for (std::uint32_t b = 0; b < layout.count; ++b) {
        const Block& block = layout.blocks[b];
        switch (block.bits) {
            case 4: count_block<Simd, 4, Q, G>(block, masks, values, words, ahead, distances); break;
            case 2: count_block<Simd, 2, Q, G>(block, masks, values, words, ahead, distances); break;
            default: count_block<Simd, 1, Q, G>(block, masks, values, words, ahead, distances); break;
        }
        masks += block.words;
        values += (block.words + block.bits - 1) / block.bits * Q;
    }

    std::uint32_t hits[Q][G] = {};
    std::uint32_t any = 0;
    alignas(64) std::int32_t lanes[Q][G][kGroupRows];
    BEBR_UNROLL for (int v = 0; v < kVectors; ++v) {
        const int g = v / Simd::kVectors, part = v % Simd::kVectors;
        BEBR_UNROLL for (int q = 0; q < Q; ++q) {
            Simd::store(lanes[q][g], part, distances[q][v]);
            hits[q][g] |= Simd::at_most(distances[q][v], sink.bounds[q], part);
            any |= hits[q][g];
        }
    }
    if (any) [[unlikely]] {
        for (int g = 0; g < G; ++g)
            for (int q = 0; q < Q; ++q)
                if (hits[q][g]) sink.offer(sink, q, list[g], hits[q][g], lanes[q][g]);
    }
}

template <class Simd, int Q>
void hamming(const Blocks& layout, const HammingTile& tile, const Groups& groups, const std::uint32_t* list,
             std::size_t count, Sink<std::int32_t>& sink) {
    constexpr int G = Simd::template kHammingGroups<Q>;
    const std::size_t distance = groups_ahead(layout);
    std::size_t i = 0;
    for (; i + G <= count; i += G)
        measure_groups<Simd, Q, G>(layout, tile, groups, list + i, group_ahead(list, count, i + distance), sink);
    if constexpr (G > 1) {
        for (; i < count; ++i)
            measure_groups<Simd, Q, 1>(layout, tile, groups, list + i, group_ahead(list, count, i + distance), sink);
    }
}

}  // namespace bebr
