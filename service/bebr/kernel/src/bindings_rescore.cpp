// The part of bebr.kernel._kernel for rescore codes; checked by bebr/kernel/rescore.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "bindings_rescore.hpp"
#include "layout.hpp"
#include "rescore.hpp"
#include "row_file.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bebr {
namespace {

template <class T>
using Vector = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void make_row_file(RowFile* place, const std::string& path, const nb::bytes& prefix, std::size_t first_byte,
                   std::size_t row_size) {
    FilePrefix bytes{};
    if (prefix.size() != bytes.size()) throw nb::value_error("a prefix has 16 bytes");
    std::copy_n(reinterpret_cast<const std::uint8_t*>(prefix.c_str()), bytes.size(), bytes.begin());
    new (place) RowFile(path, bytes, first_byte, row_size);
}

constexpr std::int64_t kAllRead = -1, kNotInMemory = -2;

// (place, errno) of the row that could not be read, or one of the above.
std::pair<std::int64_t, int> read(const std::vector<RowFile*>& files, const Vector<const std::int32_t>& file_of,
                                  const Vector<const std::int64_t>& rows, bool waits,
                                  const Matrix<std::uint8_t>& out) {
    const nb::gil_scoped_release unlocked;
    try {
        const bool all = read_rows(files, file_of.data(), rows.data(), rows.shape(0), out.shape(1), waits, out.data());
        return {all ? kAllRead : kNotInMemory, 0};
    } catch (const DamagedRow& damage) {
        return {static_cast<std::int64_t>(damage.place), damage.error};
    }
}

void seal(const Matrix<std::uint8_t>& rows) {
    const nb::gil_scoped_release unlocked;
    seal_rows(rows.data(), rows.shape(0), rows.shape(1));
}

std::size_t count_sound(const Matrix<const std::uint8_t>& rows) {
    const nb::gil_scoped_release unlocked;
    return count_sound_rows(rows.data(), rows.shape(0), rows.shape(1));
}

void rescore_all(const Layout& layout, const Matrix<const std::int16_t>& values, const Vector<const float>& scales,
                 const Matrix<const std::uint8_t>& records, const Vector<const std::int32_t>& query_of,
                 const Vector<float>& scores) {
    const nb::gil_scoped_release unlocked;
    rescore(layout, {values.data(), scales.data()}, {records.data(), records.shape(1), query_of.data(), records.shape(0)},
            scores.data());
}

}  // namespace

void bind_rescore(nb::module_& m) {
    nb::class_<RowFile>(m, "RowFile")
        .def("__init__", &make_row_file, "path"_a, "prefix"_a, "first_byte"_a, "row_size"_a)
        .def_ro("row_size", &RowFile::row_size)
        .def("move_to", &RowFile::move_to, "path"_a);
    m.def("read_rows", &read, "files"_a, "file_of"_a, "rows"_a, "waits"_a, "out"_a);
    m.def("seal_rows", &seal, "rows"_a);
    m.def("count_sound_rows", &count_sound, "rows"_a);
    m.def("rescore", &rescore_all, "layout"_a, "values"_a, "scales"_a, "records"_a, "query_of"_a, "scores"_a);
}

}  // namespace bebr
