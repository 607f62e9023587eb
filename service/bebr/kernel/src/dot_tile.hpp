// The dot kernel of sdc and adc, written once for every instruction set (`Simd`, see simd_*.hpp).
//
//   score = (((0 + scale_0 * sum_0) + scale_1 * sum_1) + ...) * gain      in float32, in this order
//   sum_b = sum of q * (2 * level - max_level) = 2 * (sum of q * level) - max_level * (sum of q)
//
// Q queries meet G groups at a time: a level that was unpacked serves Q queries, a query value that was loaded serves G
// groups, and all Q * G sums stay in registers.
#pragma once

#include "kernels.hpp"
#include "tile.hpp"

namespace bebr {

// Adds the products of one block of `Bits`-bit levels to `sums`. `values` is [word][field][query].
template <class Simd, int Bits, int Q, int G>
BEBR_INLINE void sum_block(const Block& block, const std::int32_t* values, const std::uint32_t* const (&groups)[G],
                           const std::uint32_t* ahead, typename Simd::Sums (&sums)[Q][G * Simd::kVectors]) {
    constexpr int kVectors = G * Simd::kVectors;
    constexpr int kFields = 8 / Bits;
    constexpr std::uint32_t kStep = Simd::template kWordsPerPartial<Bits>;
    for (std::uint32_t first = 0; first < block.words; first += kStep) {
        const std::uint32_t end = block.words - first < kStep ? block.words : first + kStep;
        typename Simd::Partial partial[Q][kVectors];
        BEBR_UNROLL for (int q = 0; q < Q; ++q)
            BEBR_UNROLL for (int v = 0; v < kVectors; ++v) partial[q][v] = Simd::no_partial();
        for (std::uint32_t word = first; word < end; ++word) {
            const std::size_t at = (block.first_word + word) * kGroupRows;
            if constexpr (Q == 1) prefetch(ahead + at);
            typename Simd::Words words[kVectors];
            BEBR_UNROLL for (int v = 0; v < kVectors; ++v)
                words[v] = Simd::load(groups[v / Simd::kVectors] + at, v % Simd::kVectors);
            BEBR_UNROLL for (int field = 0; field < kFields; ++field) {
                typename Simd::Words levels[kVectors];
                BEBR_UNROLL for (int v = 0; v < kVectors; ++v)
                    levels[v] = Simd::template levels<Bits>(words[v], field);
                BEBR_UNROLL for (int q = 0; q < Q; ++q) {
                    const auto value = Simd::broadcast(values[q]);
                    BEBR_UNROLL for (int v = 0; v < kVectors; ++v)
                        partial[q][v] = Simd::dot(partial[q][v], levels[v], value);
                }
                values += Q;
            }
        }
        BEBR_UNROLL for (int q = 0; q < Q; ++q)
            BEBR_UNROLL for (int v = 0; v < kVectors; ++v) sums[q][v] = Simd::widen(sums[q][v], partial[q][v]);
    }
}

// The same for one query and one group where bytes may use all their 8 bits: fields are masked but not shifted, each
// into a sum of its own, and every sum is shifted once at the end (exactly: it is a multiple of the field's weight).
template <class Simd, int Bits>
BEBR_INLINE void sum_block_in_place(const Block& block, const std::int32_t* values, const std::uint32_t* group,
                                    const std::uint32_t* ahead, typename Simd::Sums& sum) {
    constexpr int kFields = 8 / Bits;
    typename Simd::Partial partial[kFields];
    BEBR_UNROLL for (int field = 0; field < kFields; ++field) partial[field] = Simd::no_partial();
    for (std::uint32_t word = 0; word < block.words; ++word) {
        const std::size_t at = (block.first_word + word) * kGroupRows;
        prefetch(ahead + at);
        const typename Simd::Words words = Simd::load(group + at, 0);
        BEBR_UNROLL for (int field = 0; field < kFields; ++field)
            partial[field] = Simd::dot(partial[field], Simd::template levels_in_place<Bits>(words, field),
                                       Simd::broadcast(values[field]));
        values += kFields;
    }
    BEBR_UNROLL for (int field = 0; field < kFields; ++field)
        sum = Simd::add(sum, Simd::template shift_down<Bits>(partial[field], field));
}

template <class Simd, int Bits, int Q, int G>
BEBR_INLINE void sum_block_best(const Block& block, const std::int32_t* values,
                                const std::uint32_t* const (&groups)[G], const std::uint32_t* ahead,
                                typename Simd::Sums (&sums)[Q][G * Simd::kVectors]) {
    if constexpr (Q == 1 && G == 1 && Simd::kFieldsInPlace)
        sum_block_in_place<Simd, Bits>(block, values, groups[0], ahead, sums[0][0]);
    else
        sum_block<Simd, Bits, Q, G>(block, values, groups, ahead, sums);
}

// Scores Q queries against the G groups list[0..G) and offers what is within the bounds.
template <class Simd, int Q, int G>
BEBR_INLINE void score_groups(const Blocks& layout, const DotTile& tile, const Groups& groups,
                              const std::uint32_t* list, std::uint32_t group_ahead, Sink<float>& sink) {
    constexpr int kVectors = G * Simd::kVectors;
    const std::uint32_t* words[G];
    BEBR_UNROLL for (int g = 0; g < G; ++g) words[g] = groups.words + list[g] * group_words(layout);
    const std::uint32_t* ahead = groups.words + group_ahead * group_words(layout);

    typename Simd::Floats scores[Q][kVectors];
    BEBR_UNROLL for (int q = 0; q < Q; ++q)
        BEBR_UNROLL for (int v = 0; v < kVectors; ++v) scores[q][v] = Simd::no_score();
    const std::int32_t* values = tile.values;
    const std::int32_t* offsets = tile.offsets;
    const float* scales = tile.scales;
    for (std::uint32_t b = 0; b < layout.count; ++b) {
        const Block& block = layout.blocks[b];
        typename Simd::Sums sums[Q][kVectors];
        BEBR_UNROLL for (int q = 0; q < Q; ++q)
            BEBR_UNROLL for (int v = 0; v < kVectors; ++v) sums[q][v] = Simd::no_sum();
        switch (block.bits) {
            case 4: sum_block_best<Simd, 4, Q, G>(block, values, words, ahead, sums); break;
            case 2: sum_block_best<Simd, 2, Q, G>(block, values, words, ahead, sums); break;
            default: sum_block_best<Simd, 1, Q, G>(block, values, words, ahead, sums); break;
        }
        BEBR_UNROLL for (int q = 0; q < Q; ++q)
            BEBR_UNROLL for (int v = 0; v < kVectors; ++v)
                scores[q][v] = Simd::add_scaled(scores[q][v], sums[q][v], offsets[q], scales[q]);
        values += block.words * block.fields * Q;
        offsets += Q;
        scales += Q;
    }

    std::uint32_t hits[Q][G] = {};
    std::uint32_t any = 0;
    alignas(64) float lanes[Q][G][kGroupRows];
    BEBR_UNROLL for (int v = 0; v < kVectors; ++v) {
        const int g = v / Simd::kVectors, part = v % Simd::kVectors;
        const auto gains = Simd::load_gains(groups.gains + list[g] * kGroupRows, part);
        BEBR_UNROLL for (int q = 0; q < Q; ++q) {
            const auto score = Simd::multiply(scores[q][v], gains);
            Simd::store(lanes[q][g], part, score);
            hits[q][g] |= Simd::at_least(score, sink.bounds[q], part);
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
void dot(const Blocks& layout, const DotTile& tile, const Groups& groups, const std::uint32_t* list,
         std::size_t count, Sink<float>& sink) {
    constexpr int G = Simd::template kDotGroups<Q>;
    const std::size_t distance = groups_ahead(layout);
    std::size_t i = 0;
    for (; i + G <= count; i += G)
        score_groups<Simd, Q, G>(layout, tile, groups, list + i, group_ahead(list, count, i + distance), sink);
    if constexpr (G > 1) {
        for (; i < count; ++i)
            score_groups<Simd, Q, 1>(layout, tile, groups, list + i, group_ahead(list, count, i + distance), sink);
    }
}

}  // namespace bebr
