// Strings of a table in a mapped file, each checked when it is read: the file may have changed since it was opened.
#pragma once

#include <cstddef>
#include <cstdint>

#include "checksum.hpp"

namespace bebr {

// Whether `lookup` (ascending; hash in the high half, row in the low one) says that this row has this hash.
inline bool has_hash(const std::uint64_t* lookup, std::size_t rows, std::uint64_t row, std::uint32_t hash) {
    const std::uint64_t wanted = std::uint64_t{hash} << 32 | row;
    std::size_t low = 0, high = rows;
    while (low < high) {
        const std::size_t middle = low + (high - low) / 2;
        if (lookup[middle] < wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < rows && lookup[low] == wanted;
}

}  // namespace bebr
