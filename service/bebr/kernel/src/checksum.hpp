// The crc32 of zlib, eight bytes a step: rows of a file are checked one by one while a search waits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bebr {

inline std::uint32_t crc32(const std::uint8_t* bytes, std::size_t size) {
    using Tables = std::array<std::array<std::uint32_t, 256>, 8>;
    static const Tables tables = [] {
        Tables made{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) value = value & 1 ? 0xEDB88320u ^ (value >> 1) : value >> 1;
            made[0][i] = value;
        }
        for (std::uint32_t i = 0; i < 256; ++i)
            for (int t = 1; t < 8; ++t) made[t][i] = made[0][made[t - 1][i] & 0xFF] ^ (made[t - 1][i] >> 8);
        return made;
    }();
    std::uint32_t value = ~0u;
    for (; size >= 8; bytes += 8, size -= 8) {
        std::uint32_t low, high;
        std::memcpy(&low, bytes, 4);
        std::memcpy(&high, bytes + 4, 4);
        low ^= value;
        value = tables[7][low & 0xFF] ^ tables[6][low >> 8 & 0xFF] ^ tables[5][low >> 16 & 0xFF] ^ tables[4][low >> 24] ^
                tables[3][high & 0xFF] ^ tables[2][high >> 8 & 0xFF] ^ tables[1][high >> 16 & 0xFF] ^ tables[0][high >> 24];
    }
    for (std::size_t i = 0; i < size; ++i) value = tables[0][(value ^ bytes[i]) & 0xFF] ^ (value >> 8);
    return ~value;
}

}  // namespace bebr
