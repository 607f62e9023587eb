// The exact scan: which groups meet which queries, in which order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.hpp"
#include "layout.hpp"
#include "queries.hpp"

namespace bebr {

// Rows to scan: blocked codes and, for dot scores, their gains (float16 bits, one per row; null for hamming).
struct Rows {
    const std::uint32_t* words;
    const std::uint16_t* gains;
    std::size_t count;
};

// What every query of a batch asks for. masks[q] has one bit per row in 16-bit words, or is null: all rows.
template <class Score>
struct Wanted {
    std::size_t queries;
    std::size_t k;
    const std::uint16_t* const* masks;
    const Score* bounds;  // floors or ceilings, one per query, or null: none
};

// Where the results go: (queries, k), best first, ties by ascending row.
template <class Score>
struct Found {
    Score* scores;
    std::int64_t* rows;
};

// What rows are grouped by: `count` labels 0, 1, ..; below 0: none. `starts` (rows + 1), unless null, says which items of
// `codes` are a row's; without it, item and row are the same. The best rows of the `wanted` best labels are asked for. Rows
// that tie come in the order of their `ranks`, unless null: then in their own.
struct Labels {
    const std::int32_t* codes;
    const std::int64_t* starts;
    std::size_t count;
    std::size_t wanted;
    const std::uint32_t* ranks = nullptr;
};

void dot_top_k(const Kernels& kernels, const Layout& layout, const Rows& rows, const DotQueries& queries,
               const Wanted<float>& wanted, const Found<float>& found);

void hamming_top_k(const Kernels& kernels, const Layout& layout, const Rows& rows, const std::uint8_t* query_codes,
                   const Wanted<std::int32_t>& wanted, const Found<std::int32_t>& found);

// One query: the k best rows of each label, by ascending label: (labels, k). Where k is 1, labels that are not among the
// best `wanted` ones may be left out. What is found are items.
void dot_top_labels(const Kernels& kernels, const Layout& layout, const Rows& rows, const DotQueries& query,
                    const Wanted<float>& wanted, const Labels& labels, const Found<float>& found);

void hamming_top_labels(const Kernels& kernels, const Layout& layout, const Rows& rows,
                        const std::uint8_t* query_code, const Wanted<std::int32_t>& wanted, const Labels& labels,
                        const Found<std::int32_t>& found);

}  // namespace bebr
