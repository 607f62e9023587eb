#pragma once

#include <nanobind/nanobind.h>

namespace bebr {

void bind_rescore(nanobind::module_& m);

}  // namespace bebr
