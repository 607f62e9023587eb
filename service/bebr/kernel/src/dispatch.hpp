// Which kernels this machine can run.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace bebr {

// Best first; the portable kernels are always last.
std::vector<const Kernels*> supported_kernels();

// The kernels in use: the best that are supported, until `use_kernels` names others. Safe from any thread.
const Kernels& current_kernels();

// False when this machine does not support them.
bool use_kernels(const std::string& name);

}  // namespace bebr
