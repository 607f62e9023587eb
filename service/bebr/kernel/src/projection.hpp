// How embeddings become queries of one layout.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.hpp"
#include "queries.hpp"

namespace bebr {

// A product with a matrix (size, columns) and, where `of` is not null, dim d is the column of[d] times factors[d]; then 8
// bits a dim, see `quantize`.
struct Projection {
    const Layout* layout;
    const float* matrix;
    std::size_t size;
    std::size_t columns;
    const std::int64_t* of;
    const float* factors;
    const float* steps;

    // One embedding (size) -> values (dims) and scales (blocks).
    void apply(const Kernels& kernels, const float* embedding, std::int8_t* values, float* scales) const {
        std::vector<float> products(columns), projected;
        kernels.project(embedding, 1, matrix, size, columns, products.data());
        if (of) {
            projected.resize(layout->dims);
            for (std::size_t d = 0; d < projected.size(); ++d) projected[d] = products[of[d]] * factors[d];
        }
        quantize(*layout, of ? projected.data() : products.data(), steps, values, scales);
    }
};

}  // namespace bebr
