// Rows times a matrix, with sums in one fixed order: a query must score the same alone and beside others, on every
// machine. Compiled for every instruction set.
#pragma once

#include <cstring>

#include "kernels.hpp"
#include "tile.hpp"

namespace bebr {

constexpr std::size_t kLaneFloats = 16;
constexpr int kLanes = 4;  // columns of a tile, in vectors

typedef float FloatLane __attribute__((vector_size(kLaneFloats * sizeof(float))));

// Lanes * kLaneFloats columns of one row's product.
template <class Simd, int Lanes>
BEBR_INLINE void project_columns(const float* row, const float* matrix, std::size_t size, std::size_t dims,
                                 float* projected) {
    FloatLane sums[Lanes] = {};
    for (std::size_t i = 0; i < size; ++i, matrix += dims) {
        BEBR_EACH(lane, Lanes) {
            FloatLane column;
            std::memcpy(&column, matrix + lane * kLaneFloats, sizeof column);
            sums[lane] += column * row[i];
        }
    }
    std::memcpy(projected, sums, sizeof sums);
}

template <class Simd>
void project(const float* rows, std::size_t count, const float* matrix, std::size_t size, std::size_t dims,
             float* projected) {
    constexpr std::size_t kColumns = kLanes * kLaneFloats;
    for (std::size_t r = 0; r < count; ++r, rows += size, projected += dims) {
        std::size_t first = 0;
        for (; first + kColumns <= dims; first += kColumns)
            project_columns<Simd, kLanes>(rows, matrix + first, size, dims, projected + first);
        for (; first + kLaneFloats <= dims; first += kLaneFloats)
            project_columns<Simd, 1>(rows, matrix + first, size, dims, projected + first);
        for (; first < dims; ++first) {
            float sum = 0;
            for (std::size_t i = 0; i < size; ++i) sum += matrix[i * dims + first] * rows[i];
            projected[first] = sum;
        }
    }
}

}  // namespace bebr
