// Centroids of lists; checked by bebr/kernel/lists.py.
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "bindings.hpp"
#include "centroids.hpp"
#include "clustering.hpp"
#include "dispatch.hpp"

using namespace nb::literals;

namespace bebr {
namespace {

std::shared_ptr<CentroidTable> make_table(const Layout& layout, const Matrix<const std::int8_t>& values,
                                          const Matrix<const float>& scales, std::uint32_t generation,
                                          const std::shared_ptr<const CentroidTable>& cells,
                                          const std::vector<std::uint32_t>& begin) {
    return std::make_shared<CentroidTable>(layout, values.data(), scales.data(), values.shape(0), generation,
                                           Cells{cells, begin});
}

void score(const CentroidTable& table, const Matrix<const std::int8_t>& values, const Matrix<const float>& scales,
           const Matrix<float>& out) {
    const nb::gil_scoped_release unlocked;
    const std::size_t queries = values.shape(0), padded = table.padded_lists();
    const Memory memory(new Allocation(allocate(queries * padded * sizeof(float))));
    auto* const scores = reinterpret_cast<float*>(memory->bytes);
    std::vector<float*> rows;
    for (std::size_t q = 0; q < queries; ++q) rows.push_back(scores + q * padded);
    table.score(current_kernels(), {values.data(), scales.data()}, rows);
    for (std::size_t q = 0; q < queries; ++q) std::copy_n(rows[q], table.lists(), out.data() + q * table.lists());
}

void assign_rows(const Layout& layout, const Vector<const std::uint8_t>& blocked, std::size_t rows,
                 const Matrix<const std::int8_t>& values, const Matrix<const float>& scales,
                 const Vector<std::int32_t>& numbers, const Vector<float>& scores) {
    const nb::gil_scoped_release unlocked;
    assign(current_kernels(), layout, as_words(blocked), rows, {values.data(), scales.data()}, values.shape(0),
           numbers.data(), scores.data());
}

void best_of_rows(const Layout& layout, const Vector<const std::uint8_t>& blocked, std::size_t rows,
                  const Matrix<const std::int8_t>& values, const Matrix<const float>& scales,
                  const Matrix<std::int32_t>& numbers) {
    const nb::gil_scoped_release unlocked;
    best_queries(current_kernels(), layout, as_words(blocked), rows, {values.data(), scales.data()}, values.shape(0),
                 numbers.shape(1), numbers.data());
}

void add_rows(const Layout& layout, const Vector<const std::uint8_t>& blocked,
              const Vector<const std::uint16_t>& gains, std::size_t rows, const Vector<const std::int32_t>& numbers,
              const Matrix<double>& sums, const Vector<std::int64_t>& counts) {
    const nb::gil_scoped_release unlocked;
    accumulate(layout, {as_words(blocked), gains.data(), rows}, numbers.data(), sums.data(), counts.data());
}

}  // namespace

void bind_lists(nb::module_& m) {
    nb::class_<CentroidTable>(m, "CentroidTable");
    m.def("make_centroid_table", &make_table, "layout"_a, "values"_a, "scales"_a, "generation"_a,
          "cells"_a.none(), "begin"_a);
    m.def("centroid_scores", &score, "table"_a, "values"_a, "scales"_a, "out"_a);
    m.def("assign", &assign_rows, "layout"_a, "blocked"_a, "rows"_a, "values"_a, "scales"_a, "numbers"_a, "scores"_a);
    m.def("best_queries", &best_of_rows, "layout"_a, "blocked"_a, "rows"_a, "values"_a, "scales"_a, "numbers"_a);
    m.def("accumulate", &add_rows, "layout"_a, "blocked"_a, "gains"_a, "rows"_a, "numbers"_a, "sums"_a, "counts"_a);
}

}  // namespace bebr
