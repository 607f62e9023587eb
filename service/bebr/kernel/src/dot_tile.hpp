// The dot kernel of sdc and adc, written once for every instruction set (`Simd`, see kernels_*.cpp).
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

// Sums q * level over one block of `Bits`-bit levels; `words` and `ahead` stand at its first word.
template <class Simd, int Bits, int Q, int G>
BEBR_INLINE void sum_block(std::uint32_t words_in_block, const std::int32_t* values, Cursor<G> words, Cursor<G> ahead,
                           typename Simd::Sums (&sums)[Q][G * Simd::kVectors]) {
    constexpr int kVectors = G * Simd::kVectors;
    constexpr int kFields = 8 / Bits;
    constexpr std::uint32_t kStep = Simd::template kWordsPerPartial<Bits>;
    typename Simd::Sums total[Q][kVectors];
    BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) total[q][v] = Simd::no_sum();
    for (std::uint32_t first = 0; first < words_in_block; first += kStep) {
        const std::uint32_t count = words_in_block - first < kStep ? words_in_block - first : kStep;
        typename Simd::Partial partial[Q][kVectors];
        BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) partial[q][v] = Simd::no_partial();
        for (std::uint32_t word = 0; word < count; ++word) {
            typename Simd::Words loaded[kVectors];
            BEBR_EACH(v, kVectors) loaded[v] = Simd::load(words.at[v / Simd::kVectors], v % Simd::kVectors);
            BEBR_EACH(g, G) prefetch(ahead.at[g]);
            BEBR_EACH(field, kFields) {
                typename Simd::Words levels[kVectors];
                BEBR_EACH(v, kVectors) levels[v] = Simd::template levels<Bits>(loaded[v], field);
                BEBR_EACH(q, Q) {
                    const auto value = Simd::broadcast(values[field * Q + q]);
                    BEBR_EACH(v, kVectors) partial[q][v] = Simd::dot(partial[q][v], levels[v], value);
                }
            }
            values += kFields * Q;
            advance(words, 1);
            advance(ahead, 1);
        }
        BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) total[q][v] = Simd::widen(total[q][v], partial[q][v]);
    }
    BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) sums[q][v] = total[q][v];
}

// The same for one query and one group where bytes may use all their 8 bits: fields are masked but not shifted, each
// into a sum of its own, and every sum is shifted once at the end (exactly: it is a multiple of the field's weight).
template <class Simd, int Bits>
BEBR_INLINE typename Simd::Sums sum_block_in_place(std::uint32_t words_in_block, const std::int32_t* values,
                                                   Cursor<1> words, Cursor<1> ahead) {
    constexpr int kFields = 8 / Bits;
    typename Simd::Sums sums[kFields];
    BEBR_EACH(field, kFields) sums[field] = Simd::no_sum();
    // Two words per round: else compilers copy every sum from register to register in each.
    _Pragma("GCC unroll 2")
    for (std::uint32_t word = 0; word < words_in_block; ++word) {
        const typename Simd::Words loaded = Simd::load(words.at[0], 0);
        prefetch(ahead.at[0]);
        BEBR_EACH(field, kFields)
            sums[field] = Simd::dot(sums[field], Simd::template levels_in_place<Bits>(loaded, field),
                                    Simd::broadcast(values[field]));
        values += kFields;
        advance(words, 1);
        advance(ahead, 1);
    }
    typename Simd::Sums sum = sums[0];
    BEBR_EACH(field, kFields)
        if (field > 0) sum = Simd::add(sum, Simd::template shift_down<Bits>(sums[field], field));
    return sum;
}

// One query alone waits for memory, and a call per block would show. Many queries wait for registers: compilers keep all
// sums there only when nothing else is in the function.
template <class Simd, int Bits, int Q, int G>
[[gnu::noinline]] void sum_block_apart(std::uint32_t words_in_block, const std::int32_t* values,
                                       const Cursor<G>& words, const Cursor<G>& ahead,
                                       typename Simd::Sums (&sums)[Q][G * Simd::kVectors]) {
    sum_block<Simd, Bits, Q, G>(words_in_block, values, words, ahead, sums);
}

template <class Simd, int Bits, int Q, int G>
BEBR_INLINE void sum_block_best(std::uint32_t words_in_block, const std::int32_t* values, const Cursor<G>& words,
                                const Cursor<G>& ahead, typename Simd::Sums (&sums)[Q][G * Simd::kVectors]) {
    if constexpr (Q == 1 && G == 1 && Simd::kFieldsInPlace)
        sums[0][0] = sum_block_in_place<Simd, Bits>(words_in_block, values, words, ahead);
    else if constexpr (Q == 1)
        sum_block<Simd, Bits, Q, G>(words_in_block, values, words, ahead, sums);
    else
        sum_block_apart<Simd, Bits, Q, G>(words_in_block, values, words, ahead, sums);
}

// Scores Q queries against G groups, without their gains.
template <class Simd, int Q, int G>
BEBR_INLINE void sum_groups(const Blocks& layout, const DotTile& tile, Cursor<G> words, Cursor<G> ahead,
                            typename Simd::Floats (&scores)[Q][G * Simd::kVectors]) {
    constexpr int kVectors = G * Simd::kVectors;
    const std::int32_t* values = tile.values;
    const std::int32_t* offsets = tile.offsets;
    const float* scales = tile.scales;
    BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) scores[q][v] = Simd::no_score();
    for (std::uint32_t b = 0; b < layout.count; ++b) {
        const Block& block = layout.blocks[b];
        typename Simd::Sums sums[Q][kVectors];
        switch (block.bits) {
            case 4: sum_block_best<Simd, 4, Q, G>(block.words, values, words, ahead, sums); break;
            case 2: sum_block_best<Simd, 2, Q, G>(block.words, values, words, ahead, sums); break;
            default: sum_block_best<Simd, 1, Q, G>(block.words, values, words, ahead, sums); break;
        }
        BEBR_EACH(q, Q) BEBR_EACH(v, kVectors)
            scores[q][v] = Simd::add_scaled(scores[q][v], sums[q][v], offsets[q], scales[q]);
        values += block.words * block.fields * Q;
        offsets += Q;
        scales += Q;
        advance(words, block.words);
        advance(ahead, block.words);
    }
}

// Scores Q queries against the G groups list[0..G) and offers what is within the bounds.
template <class Simd, int Q, int G>
BEBR_INLINE void score_groups(const Blocks& layout, const DotTile& tile, const Groups& groups,
                              const std::uint32_t* list, const std::uint32_t* list_ahead, std::size_t i,
                              Sink<float>& sink) {
    constexpr int kVectors = G * Simd::kVectors;
    typename Simd::Floats scores[Q][kVectors];
    const Cursor<G> ahead = cursor_ahead<G>(layout, groups, list_ahead, i);
    sum_groups<Simd, Q, G>(layout, tile, cursor<G>(layout, groups, list), ahead, scores);
    BEBR_EACH(v, kVectors) {
        const std::uint32_t group = list[v / Simd::kVectors];
        const auto gains = Simd::load_gains(groups.gains + group * kGroupRows, v % Simd::kVectors);
        BEBR_EACH(q, Q) scores[q][v] = Simd::multiply(scores[q][v], gains);
    }
    offer_hits<Simd, Q, G>(scores, list, sink);
}

template <class Simd, int Q>
void dot(const Blocks& layout, const DotTile& tile, const Groups& groups, const std::uint32_t* list,
         std::size_t count, Sink<float>& sink) {
    constexpr int G = Simd::template kDotGroups<Q>;
    for_groups<G>(layout, list, count, [&]<int N>(const std::uint32_t* now, const std::uint32_t* ahead,
                                                  std::size_t i) BEBR_LAMBDA {
        score_groups<Simd, Q, N>(layout, tile, groups, now, ahead, i, sink);
    });
}

}  // namespace bebr
