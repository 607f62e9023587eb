// Rows times a matrix, with sums in one fixed order: a query must score the same alone and beside others, on every
// machine. Compiled for every instruction set.
#pragma once

#include <cstring>

#include "kernels.hpp"
#include "tile.hpp"

namespace bebr {

constexpr std::size_t kLaneFloats = 16;
constexpr int kLanes = 4;  // columns of a tile, in vectors
// Rows of the matrix that all tiles take before the next ones: a scan has left it in no cache, and it comes fastest when
// it is read from its beginning to its end.
constexpr std::size_t kRowsTogether = 16;

typedef float FloatLane __attribute__((vector_size(kLaneFloats * sizeof(float))));

// Adds to Lanes * kLaneFloats columns of one row's product what some rows of the matrix add.
template <class Simd, int Lanes>
BEBR_INLINE void project_columns(const float* row, const float* matrix, std::size_t size, std::size_t dims,
                                 float* projected) {
    FloatLane sums[Lanes];
    std::memcpy(sums, projected, sizeof sums);
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
        std::memset(projected, 0, dims * sizeof *projected);
        for (std::size_t i = 0; i < size; i += kRowsTogether) {
            const std::size_t together = i + kRowsTogether < size ? kRowsTogether : size - i;
            const float* part = matrix + i * dims;
            std::size_t first = 0;
            for (; first + kColumns <= dims; first += kColumns)
                project_columns<Simd, kLanes>(rows + i, part + first, together, dims, projected + first);
            for (; first + kLaneFloats <= dims; first += kLaneFloats)
                project_columns<Simd, 1>(rows + i, part + first, together, dims, projected + first);
            for (; first < dims; ++first)
                for (std::size_t k = 0; k < together; ++k) projected[first] += part[k * dims + first] * rows[i + k];
        }
    }
}

}  // namespace bebr
