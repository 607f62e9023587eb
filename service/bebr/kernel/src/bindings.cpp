// The module bebr.kernel._kernel. Shapes, dtypes and ranges are checked by bebr/kernel/__init__.py; what is not
// checked there is checked by nanobind (types, contiguity). The GIL is released while rows are scanned or copied.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <cerrno>
#include <cmath>
#include <memory>
#include <string>
#include <system_error>

#include "base64.hpp"
#include "bindings.hpp"
#include "bindings_rescore.hpp"
#include "dispatch.hpp"
#include "ids.hpp"
#include "layout.hpp"
#include "mapping.hpp"
#include "memory.hpp"
#include "scan.hpp"

using namespace nb::literals;

namespace bebr {
namespace {

// One mask per query, or null: all rows. No `mask_of_query` means that the first mask is for every query.
std::vector<const std::uint16_t*> masks_by_query(std::size_t queries, const Masks& masks,
                                                 const Optional<std::int32_t>& mask_of_query) {
    std::vector<const std::uint16_t*> by_query(queries, nullptr);
    if (masks.empty()) return by_query;
    for (std::size_t q = 0; q < queries; ++q) {
        const std::int32_t mask = mask_of_query ? mask_of_query->data()[q] : 0;
        if (mask >= 0) by_query[q] = masks[mask].data();
    }
    return by_query;
}

Bytes allocate_bytes(std::size_t size) {
    auto allocation = std::make_unique<Allocation>(allocate(size));
    nb::capsule owner(allocation.get(), [](void* pointer) noexcept {
        const std::unique_ptr<Allocation> owned(static_cast<Allocation*>(pointer));
        release(*owned);
    });
    const std::size_t shape[] = {size};
    return Bytes(allocation.release()->bytes, 1, shape, owner);
}

void pack_rows(const Layout& layout, const Matrix<const std::uint8_t>& codes, const Vector<std::uint8_t>& blocked,
               std::size_t first_row) {
    const nb::gil_scoped_release unlocked;
    pack(layout, codes.data(), codes.shape(0), first_row, reinterpret_cast<std::uint32_t*>(blocked.data()));
}

void unpack_rows(const Layout& layout, const Vector<const std::uint8_t>& blocked,
                 const Vector<const std::int64_t>& rows, const Matrix<std::uint8_t>& codes) {
    const nb::gil_scoped_release unlocked;
    for (std::size_t i = 0; i < rows.shape(0); ++i)
        unpack(layout, as_words(blocked), rows.data()[i], codes.data() + i * layout.code_size_bytes);
}

void dot(const Layout& layout, const Vector<const std::uint8_t>& blocked, const Vector<const std::uint16_t>& gains,
         std::size_t rows, const Matrix<const std::int8_t>& values, const Matrix<const float>& scales,
         const Masks& masks, const Optional<std::int32_t>& mask_of_query, const Optional<float>& floors,
         const Matrix<float>& found_scores, const Matrix<std::int64_t>& found_rows) {
    const auto by_query = masks_by_query(values.shape(0), masks, mask_of_query);
    const nb::gil_scoped_release unlocked;
    dot_top_k(current_kernels(), layout, {as_words(blocked), gains.data(), rows}, {values.data(), scales.data()},
              {values.shape(0), found_rows.shape(1), by_query.data(), floors ? floors->data() : nullptr},
              {found_scores.data(), found_rows.data()});
}

void hamming(const Layout& layout, const Vector<const std::uint8_t>& blocked, std::size_t rows,
             const Matrix<const std::uint8_t>& codes, const Masks& masks,
             const Optional<std::int32_t>& mask_of_query, const Optional<std::int32_t>& ceilings,
             const Matrix<std::int32_t>& found_distances, const Matrix<std::int64_t>& found_rows) {
    const auto by_query = masks_by_query(codes.shape(0), masks, mask_of_query);
    const nb::gil_scoped_release unlocked;
    hamming_top_k(current_kernels(), layout, {as_words(blocked), nullptr, rows}, codes.data(),
                  {codes.shape(0), found_rows.shape(1), by_query.data(), ceilings ? ceilings->data() : nullptr},
                  {found_distances.data(), found_rows.data()});
}

void dot_labels(const Layout& layout, const Vector<const std::uint8_t>& blocked,
                const Vector<const std::uint16_t>& gains, std::size_t rows, const Matrix<const std::int8_t>& values,
                const Matrix<const float>& scales, const Masks& masks, float floor,
                const Vector<const std::int32_t>& codes, const Optional<std::int64_t>& starts, std::size_t wanted,
                const Optional<std::uint32_t>& ranks,
                const Matrix<float>& found_scores, const Matrix<std::int64_t>& found_items) {
    const auto by_query = masks_by_query(1, masks, std::nullopt);
    const nb::gil_scoped_release unlocked;
    dot_top_labels(current_kernels(), layout, {as_words(blocked), gains.data(), rows}, {values.data(), scales.data()},
                   {1, found_items.shape(1), by_query.data(), &floor},
                   {codes.data(), starts ? starts->data() : nullptr, found_items.shape(0), wanted,
                    ranks ? ranks->data() : nullptr},
                   {found_scores.data(), found_items.data()});
}

void hamming_labels(const Layout& layout, const Vector<const std::uint8_t>& blocked, std::size_t rows,
                    const Matrix<const std::uint8_t>& query, const Masks& masks, std::int32_t ceiling,
                    const Vector<const std::int32_t>& codes, const Optional<std::int64_t>& starts, std::size_t wanted,
                const Optional<std::uint32_t>& ranks,
                    const Matrix<std::int32_t>& found_distances, const Matrix<std::int64_t>& found_items) {
    const auto by_query = masks_by_query(1, masks, std::nullopt);
    const nb::gil_scoped_release unlocked;
    hamming_top_labels(current_kernels(), layout, {as_words(blocked), nullptr, rows}, query.data(),
                       {1, found_items.shape(1), by_query.data(), &ceiling},
                       {codes.data(), starts ? starts->data() : nullptr, found_items.shape(0), wanted,
                    ranks ? ranks->data() : nullptr},
                       {found_distances.data(), found_items.data()});
}

std::uint64_t read_checksum(const Vector<const std::uint8_t>& bytes) {
    const nb::gil_scoped_release unlocked;
    return current_kernels().checksum(bytes.data(), bytes.shape(0));
}

nb::ndarray<nb::numpy, const std::uint8_t, nb::ndim<1>> map_bytes(const std::string& path) {
    Mapping mapped;
    try {
        mapped = map_file(path);
    } catch (const std::system_error& error) {
        errno = error.code().value();
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, path.c_str());
        throw nb::python_error();
    }
    auto* mapping = new Mapping(mapped);
    nb::capsule owner(mapping, [](void* held) noexcept {
        unmap(*static_cast<Mapping*>(held));
        delete static_cast<Mapping*>(held);
    });
    return nb::ndarray<nb::numpy, const std::uint8_t, nb::ndim<1>>(mapping->bytes, {mapping->size}, owner);
}

nb::list read_ids(const Vector<const std::uint64_t>& offsets, const Vector<const std::uint8_t>& blob,
                  const Vector<const std::uint64_t>& lookup, const std::vector<std::uint64_t>& rows) {
    const IdTable table{offsets.data(), lookup.shape(0), blob.data(), blob.shape(0), lookup.data()};
    nb::list ids;
    for (const std::uint64_t row : rows) {
        if (row + 1 >= offsets.shape(0)) throw nb::index_error();
        const auto [bytes, size] = read_id(table, row);
        if (!bytes) throw nb::value_error(("the id of row " + std::to_string(row) + " is not what was written").c_str());
        ids.append(nb::str(bytes, size));
    }
    return ids;
}

void project_rows(const Matrix<const float>& rows, const Matrix<const float>& matrix, const Matrix<float>& projected) {
    const nb::gil_scoped_release unlocked;
    current_kernels().project(rows.data(), rows.shape(0), matrix.data(), matrix.shape(0), matrix.shape(1),
                              projected.data());
}

void quantize_rows(const Layout& layout, const Matrix<const float>& projected, const Vector<const float>& steps,
                   const Matrix<std::int8_t>& values, const Matrix<float>& scales) {
    for (std::size_t i = 0; i < projected.shape(0); ++i)
        quantize(layout, projected.data() + i * layout.dims, steps.data(), values.data() + i * layout.dims,
                 scales.data() + i * layout.blocks.size());
}

// Writes the vector at length one; false, and nothing is written, where its squared length is not within the bounds.
bool normalize(const Vector<const float>& vector, double lowest, double highest, const Matrix<float>& unit) {
    const float* from = vector.data();
    const std::size_t size = vector.shape(0);
    double sums[4] = {};  // in one fixed order on every machine
    for (std::size_t i = 0; i < size; ++i) sums[i % 4] += static_cast<double>(from[i]) * from[i];
    const double square = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    if (!(square > lowest && square < highest)) return false;  // also where it is no number
    const auto length = static_cast<float>(std::sqrt(square));
    for (std::size_t i = 0; i < size; ++i) unit.data()[i] = from[i] / length;
    return true;
}

// The bytes that base64 stands for, or None where it is none.
nb::object decode_base64(const nb::str& text) {
    Py_ssize_t size = 0;
    const char* chars = PyUnicode_IS_COMPACT_ASCII(text.ptr()) ? PyUnicode_AsUTF8AndSize(text.ptr(), &size) : nullptr;
    if (!chars || size % 4) return nb::none();
    const std::size_t padding = base64_padding(chars, size);
    const auto bytes = nb::steal<nb::object>(PyBytes_FromStringAndSize(nullptr, base64_bytes(size, padding)));
    if (!bytes.is_valid()) throw nb::python_error();
    auto* start = reinterpret_cast<std::uint8_t*>(PyBytes_AS_STRING(bytes.ptr()));
    return read_base64(chars, size, padding, start) ? bytes : nb::none();
}

std::vector<std::string> supported_isas() {
    std::vector<std::string> names;
    for (const Kernels* kernels : supported_kernels()) names.emplace_back(kernels->name);
    return names;
}

}  // namespace
}  // namespace bebr

NB_MODULE(_kernel, m) {
    using namespace bebr;
    nb::set_leak_warnings(false);  // what lives as long as the process is no leak
    bind_lists(m);
    bind_parts(m);
    bind_nearest(m);
    bind_pieces(m);
    nb::class_<Layout>(m, "Layout")
        .def(nb::init<const std::vector<std::pair<std::uint32_t, std::uint32_t>>&>(), "blocks"_a)
        .def_ro("dims", &Layout::dims)
        .def_ro("code_size_bytes", &Layout::code_size_bytes)
        .def("blocked_size_bytes", &Layout::blocked_size_bytes, "rows"_a);
    m.def("supported_isas", &supported_isas);
    m.def("use_isa", &use_kernels, "name"_a);
    m.def("isa", [] { return current_kernels().name; });
    m.def("allocate", &allocate_bytes, "size"_a);
    m.def("pack", &pack_rows, "layout"_a, "codes"_a, "blocked"_a, "first_row"_a);
    m.def("unpack", &unpack_rows, "layout"_a, "blocked"_a, "rows"_a, "codes"_a);
    m.def("dot_top_k", &dot, "layout"_a, "blocked"_a, "gains"_a, "rows"_a, "values"_a, "scales"_a, "masks"_a,
          "mask_of_query"_a.none(), "floors"_a.none(), "found_scores"_a, "found_rows"_a);
    m.def("hamming_top_k", &hamming, "layout"_a, "blocked"_a, "rows"_a, "codes"_a, "masks"_a,
          "mask_of_query"_a.none(), "ceilings"_a.none(), "found_distances"_a, "found_rows"_a);
    m.def("dot_top_labels", &dot_labels, "layout"_a, "blocked"_a, "gains"_a, "rows"_a, "values"_a, "scales"_a,
          "masks"_a, "floor"_a, "codes"_a, "starts"_a.none(), "wanted"_a, "ranks"_a.none(), "found_scores"_a, "found_items"_a);
    m.def("hamming_top_labels", &hamming_labels, "layout"_a, "blocked"_a, "rows"_a, "query"_a, "masks"_a, "ceiling"_a,
          "codes"_a, "starts"_a.none(), "wanted"_a, "ranks"_a.none(), "found_distances"_a, "found_items"_a);
    m.def("map_file", &map_bytes, "path"_a);
    m.def("read_ids", &read_ids, "offsets"_a, "blob"_a, "lookup"_a, "rows"_a);
    m.def("project", &project_rows, "rows"_a, "matrix"_a, "projected"_a);
    m.def("quantize", &quantize_rows, "layout"_a, "projected"_a, "steps"_a, "values"_a, "scales"_a);
    m.def("normalize", &normalize, "vector"_a, "lowest"_a, "highest"_a, "unit"_a);
    m.def("decode_base64", &decode_base64, "text"_a);
    m.def("read_checksum", &read_checksum, "bytes"_a);
    bind_records(m);
    bind_rescore(m);
}
