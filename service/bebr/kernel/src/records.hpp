// Levels of points as they are stored: packed into codes, each with its gain. As bebr.core.codes has them, to the bit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout.hpp"

namespace bebr {

constexpr std::size_t kGainBytes = 2;

// levels (rows, dims) and gains (rows,) of float16 bits -> records (rows, code_size_bytes + kGainBytes), `stride` bytes
// from one to the next. False where a level is over those of its block.
bool write_records(const Layout& layout, const std::uint8_t* levels, const std::uint16_t* gains, std::size_t rows,
                   std::uint8_t* records, std::size_t stride);

// What the levels represent, (rows, dims): grid value * step of its block * gain, in this order. gains: float32.
void represent(const Layout& layout, const std::uint8_t* levels, const float* gains, const float* steps,
               std::size_t rows, float* values);

}  // namespace bebr
