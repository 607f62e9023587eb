// The part of bebr.kernel._kernel that makes records; checked by bebr/kernel/records.py.
#include "bindings.hpp"
#include "records.hpp"

using namespace nb::literals;

namespace bebr {
namespace {

bool write(const Layout& layout, const Matrix<const std::uint8_t>& levels, const Vector<const std::uint16_t>& gains,
           const Matrix<std::uint8_t>& records, std::size_t first_byte) {
    const nb::gil_scoped_release unlocked;
    return write_records(layout, levels.data(), gains.data(), gains.shape(0), records.data() + first_byte,
                         records.shape(1));
}

void represent_levels(const Layout& layout, const Matrix<const std::uint8_t>& levels, const Vector<const float>& gains,
                      const Vector<const float>& steps, const Matrix<float>& values) {
    const nb::gil_scoped_release unlocked;
    represent(layout, levels.data(), gains.data(), steps.data(), gains.shape(0), values.data());
}

}  // namespace

void bind_records(nb::module_& m) {
    m.def("write_records", &write, "layout"_a, "levels"_a, "gains"_a, "records"_a, "first_byte"_a);
    m.def("represent", &represent_levels, "layout"_a, "levels"_a, "gains"_a, "steps"_a, "values"_a);
}

}  // namespace bebr
