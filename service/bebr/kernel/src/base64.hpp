// Base64 as it comes in requests: RFC 4648 with padding, and nothing else.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace bebr {

constexpr std::uint8_t kNoDigit = 0x80;  // no digit has this bit

// Digit by character.
constexpr std::array<std::uint8_t, 256> base64_digits() {
    std::array<std::uint8_t, 256> digits{};
    for (std::uint8_t& digit : digits) digit = kNoDigit;
    for (int i = 0; i < 26; ++i) {
        digits['A' + i] = static_cast<std::uint8_t>(i);
        digits['a' + i] = static_cast<std::uint8_t>(26 + i);
    }
    for (int i = 0; i < 10; ++i) digits['0' + i] = static_cast<std::uint8_t>(52 + i);
    digits['+'] = 62;
    digits['/'] = 63;
    return digits;
}

// How many bytes so many characters stand for, `padding` of them '='.
constexpr std::size_t base64_bytes(std::size_t size, std::size_t padding) { return size / 4 * 3 - padding; }

inline std::size_t base64_padding(const char* text, std::size_t size) {
    if (size < 4 || text[size - 1] != '=') return 0;
    return text[size - 2] == '=' ? 2 : 1;
}

// Writes base64_bytes(size, padding) bytes; false: it is no base64. The size is a multiple of 4.
inline bool read_base64(const char* text, std::size_t size, std::size_t padding, std::uint8_t* bytes) {
    static constexpr auto kDigits = base64_digits();
    const auto* chars = reinterpret_cast<const std::uint8_t*>(text);
    const std::size_t whole = size - (padding ? 4 : 0);
    std::uint32_t wrong = 0;
    for (std::size_t i = 0; i < whole; i += 4, bytes += 3) {
        const std::uint32_t a = kDigits[chars[i]], b = kDigits[chars[i + 1]];
        const std::uint32_t c = kDigits[chars[i + 2]], d = kDigits[chars[i + 3]];
        wrong |= a | b | c | d;
        const std::uint32_t bits = a << 18 | b << 12 | c << 6 | d;
        bytes[0] = static_cast<std::uint8_t>(bits >> 16);
        bytes[1] = static_cast<std::uint8_t>(bits >> 8);
        bytes[2] = static_cast<std::uint8_t>(bits);
    }
    if (padding) {
        const std::uint32_t a = kDigits[chars[whole]], b = kDigits[chars[whole + 1]];
        const std::uint32_t c = padding == 1 ? kDigits[chars[whole + 2]] : 0;
        wrong |= a | b | c;
        bytes[0] = static_cast<std::uint8_t>(a << 2 | b >> 4);
        if (padding == 1) bytes[1] = static_cast<std::uint8_t>(b << 4 | c >> 2);
    }
    return !(wrong & kNoDigit);
}

}  // namespace bebr
