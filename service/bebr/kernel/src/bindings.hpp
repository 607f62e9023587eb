// What the bindings share: arrays as they come from Python.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace nb = nanobind;

namespace bebr {

template <class T>
using Vector = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<1>>;
using Masks = std::vector<Vector<const std::uint16_t>>;
template <class T>
using Optional = std::optional<Vector<const T>>;

inline const std::uint32_t* as_words(const Vector<const std::uint8_t>& blocked) {
    return reinterpret_cast<const std::uint32_t*>(blocked.data());
}

void bind_records(nb::module_& m);
// The class Parts and what is found in them.
void bind_parts(nb::module_& m);
// The class Pieces.
void bind_pieces(nb::module_& m);

// Centroids of lists.
void bind_lists(nb::module_& m);

}  // namespace bebr
