// The part of bebr.kernel._kernel for rescore codes; checked by bebr/kernel/rescore.py.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <new>
#include <string>
#include <tuple>

#include "bindings_rescore.hpp"
#include "held_sources.hpp"

using namespace nb::literals;

namespace bebr {
namespace {

void make_row_file(RowFile* place, const std::string& path, const nb::bytes& prefix, std::size_t first_byte,
                   std::size_t row_size) {
    FilePrefix bytes{};
    if (prefix.size() != bytes.size()) throw nb::value_error("a prefix has 16 bytes");
    std::copy_n(reinterpret_cast<const std::uint8_t*>(prefix.c_str()), bytes.size(), bytes.begin());
    new (place) RowFile(path, bytes, first_byte, row_size);
}

// Raises ValueError unless rows are of files that are there and have rows of this size.
void check_files(const std::vector<RowFile*>& files, std::size_t row_size, const Vector<const std::int32_t>& file_of,
                 std::size_t count) {
    bool sound = file_of.shape(0) == count;
    for (const RowFile* file : files) sound &= file && file->row_size == row_size;
    for (std::size_t i = 0; sound && i < count; ++i) sound = file_of.data()[i] < static_cast<std::int64_t>(files.size());
    if (!sound) throw nb::value_error("a file of rows is not there, or has rows of another size");
}

RowsRead read(const std::vector<RowFile*>& files, const Vector<const std::int32_t>& file_of,
              const Vector<const std::int64_t>& rows, const Matrix<std::uint8_t>& out) {
    check_files(files, out.shape(1), file_of, rows.shape(0));
    const nb::gil_scoped_release unlocked;
    try {
        read_rows(files, file_of.data(), rows.data(), rows.shape(0), out.shape(1), true, out.data());
        return {kAllRead, 0};
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

// query_of: none where there is one query only.
RowsRead add_scores(const HeldSources& sources, const Matrix<const std::int16_t>& values,
                    const Vector<const float>& scales, const Vector<const std::int32_t>& places,
                    const Vector<const std::int64_t>& rows, const Optional<std::int32_t>& query_of, bool waits,
                    const Vector<double>& scores, const Vector<std::int64_t>& counts) {
    const nb::gil_scoped_release unlocked;
    return sources.add_scores({values.data(), scales.data()}, places.data(), rows.data(), rows.shape(0),
                              query_of ? query_of->data() : nullptr, waits, scores.data(), counts.data());
}

// A matrix in whole numbers; it keeps its arrays alive.
class Projection {
public:
    Projection(const Matrix<const std::int16_t>& columns, const Vector<const float>& units,
               const Vector<const std::int32_t>& column_of, const Vector<const float>& factors, std::int32_t peak)
        : peak_(peak),
          held_(columns, units, column_of, factors),
          whole_{columns.data(),   units.data(),   columns.shape(0),  columns.shape(1),
                 column_of.data(), factors.data(), column_of.shape(0)} {}

    void project(const Matrix<const float>& rows, const Matrix<float>& projected) const {
        project_rescore(current_kernels(), rows.data(), rows.shape(0), whole_, projected.data());
    }

    // What quantize_rescore makes of the projected rows.
    void queries(const Matrix<const float>& rows, const Matrix<std::int16_t>& values,
                 const Vector<float>& scales) const {
        std::vector<float> projected(rows.shape(0) * whole_.dims);
        project_rescore(current_kernels(), rows.data(), rows.shape(0), whole_, projected.data());
        quantize_rescore(projected.data(), rows.shape(0), whole_.dims, peak_, values.data(), scales.data());
    }

private:
    const std::int32_t peak_;
    const std::tuple<Matrix<const std::int16_t>, Vector<const float>, Vector<const std::int32_t>, Vector<const float>>
        held_;
    const WholeColumns whole_;
};

void quantize(const Matrix<const float>& projected, std::int32_t peak, const Matrix<std::int16_t>& values,
              const Vector<float>& scales) {
    quantize_rescore(projected.data(), projected.shape(0), projected.shape(1), peak, values.data(), scales.data());
}

}  // namespace

void bind_rescore(nb::module_& m) {
    nb::class_<RowFile>(m, "RowFile")
        .def("__init__", &make_row_file, "path"_a, "prefix"_a, "first_byte"_a, "row_size"_a)
        .def_ro("row_size", &RowFile::row_size)
        .def("move_to", &RowFile::move_to, "path"_a);
    m.def("read_rows", &read, "files"_a, "file_of"_a, "rows"_a, "out"_a);
    m.def("seal_rows", &seal, "rows"_a);
    m.def("count_sound_rows", &count_sound, "rows"_a);
    nb::class_<HeldSources>(m, "RescoreSources")
        .def(nb::init<const Layout&, std::size_t, const nb::list&, std::vector<Matrix<const std::uint8_t>>,
                      const std::vector<std::int32_t>&>(),
             "layout"_a, "row_size"_a, "files"_a, "arrays"_a, "source_at"_a)
        .def("add_scores", &add_scores, "values"_a, "scales"_a, "places"_a, "rows"_a, "query_of"_a.none(),
             "waits"_a, "scores"_a, "counts"_a);
    nb::class_<Projection>(m, "RescoreProjection")
        .def(nb::init<const Matrix<const std::int16_t>&, const Vector<const float>&, const Vector<const std::int32_t>&,
                      const Vector<const float>&, std::int32_t>(),
             "columns"_a, "units"_a, "column_of"_a, "factors"_a, "peak"_a)
        .def("project", &Projection::project, "rows"_a, "projected"_a)
        .def("queries", &Projection::queries, "rows"_a, "values"_a, "scales"_a);
    m.def("quantize_rescore", &quantize, "projected"_a, "peak"_a, "values"_a, "scales"_a);
}

}  // namespace bebr
