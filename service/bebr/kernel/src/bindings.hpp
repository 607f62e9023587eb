// What the bindings share: arrays as they come from Python.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <utility>
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

// Numbers as an array of this shape.
template <class Number>
nb::object as_array(std::vector<Number>&& numbers, std::initializer_list<std::size_t> shape) {
    auto* owned = new std::vector<Number>(std::move(numbers));
    nb::capsule owner(owned, [](void* held) noexcept { delete static_cast<std::vector<Number>*>(held); });
    return nb::cast(nb::ndarray<nb::numpy, Number>(owned->data(), shape, owner));
}

template <class Number>
nb::object as_array(std::vector<Number>&& numbers) {
    const std::size_t size = numbers.size();
    return as_array(std::move(numbers), {size});
}

void bind_records(nb::module_& m);
// The class Parts and what is found in them.
void bind_parts(nb::module_& m);
// From embeddings to hits in one call.
void bind_nearest(nb::module_& m);
// The class Pieces.
void bind_pieces(nb::module_& m);

// Centroids of lists.
void bind_lists(nb::module_& m);

}  // namespace bebr
