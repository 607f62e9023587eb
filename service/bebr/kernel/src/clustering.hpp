// What k-means of codes asks of every row: which query is its best, and what the rows of each list add up to.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.hpp"
#include "layout.hpp"
#include "queries.hpp"
#include "scan.hpp"

namespace bebr {

// The query that scores each row best, the first of those that tie, and that score, without the row's gain: (rows,) each.
void assign(const Kernels& kernels, const Layout& layout, const std::uint32_t* words, std::size_t rows,
            const DotQueries& queries, std::size_t count, std::int32_t* numbers, float* scores);

// The k queries (rows, k) that score each row best, best first, of those that tie the first ones. k at most `count`.
void best_queries(const Kernels& kernels, const Layout& layout, const std::uint32_t* words, std::size_t rows,
                  const DotQueries& queries, std::size_t count, std::size_t k, std::int32_t* numbers);

// Adds gain * grid value of every row to the sum of its list (lists, dims), and counts its rows.
void accumulate(const Layout& layout, const Rows& rows, const std::int32_t* numbers, double* sums,
                std::int64_t* counts);

}  // namespace bebr
