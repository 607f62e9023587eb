// Files that are mapped to be read now and then, without a descriptor that stays open. Where a file was cut short, what
// is gone reads as zeros: the process does not die of it, and whoever reads must check what it read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace bebr {

struct Mapping {
    const std::uint8_t* bytes;
    std::size_t size;
};

// Raises std::system_error.
Mapping map_file(const std::string& path);
void unmap(const Mapping& mapping);
// How many pages have been found missing so far, and read as zeros from then on, in all mappings of the process.
std::size_t lost_pages();

}  // namespace bebr
