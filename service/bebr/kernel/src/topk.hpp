// The k best rows of one query: an unordered buffer that is cut back to k whenever it is full, and a bound that tells
// the kernel what is still worth offering. Almost every row fails the bound, so the buffer costs next to nothing.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace bebr {

// Scores of sdc and adc: higher is better. Keys order the other way round, so that the smallest key is the best.
struct HighestScore {
    using Score = float;
    static constexpr float kNothing = -std::numeric_limits<float>::infinity();

    static std::uint32_t key(float score) {
        const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);  // -0 ties with 0
        return bits >> 31 ? bits : ~(bits | 0x80000000u);
    }
    static float score(std::uint32_t key) {
        return std::bit_cast<float>(key >> 31 ? key : ~key & 0x7fffffffu);
    }
    static bool within(float score, float bound) { return score >= bound; }
    // Rows come in ascending order, so a later row must beat the k-th best score, not match it.
    static float bound_after(float kth) { return std::nextafter(kth, std::numeric_limits<float>::infinity()); }
};

// Hamming distances: lower is better.
struct LowestDistance {
    using Score = std::int32_t;
    static constexpr std::int32_t kNothing = std::numeric_limits<std::int32_t>::max();

    static std::uint32_t key(std::int32_t distance) { return static_cast<std::uint32_t>(distance); }
    static std::int32_t score(std::uint32_t key) { return static_cast<std::int32_t>(key); }
    static bool within(std::int32_t distance, std::int32_t bound) { return distance <= bound; }
    static std::int32_t bound_after(std::int32_t kth) { return kth - 1; }
};

template <class Order>
class TopK {
public:
    using Score = typename Order::Score;

    // A larger buffer is cut back less often; a smaller one keeps the bound tighter.
    explicit TopK(std::size_t k) : k_(k), capacity_(k + std::max<std::size_t>(k / 2, 8)) {}

    // Adds a row. True when the buffer was cut back: then `bound()` is tighter than before.
    bool push(Score score, std::uint32_t row) {
        entries_.push_back(std::uint64_t{Order::key(score)} << 32 | row);
        if (entries_.size() < capacity_) return false;
        std::nth_element(entries_.begin(), entries_.begin() + (k_ - 1), entries_.end());
        entries_.resize(k_);
        return true;
    }

    // Valid after `push` returned true.
    Score bound() const { return Order::bound_after(Order::score(entries_[k_ - 1] >> 32)); }

    // Writes k scores and rows, best first, ties by ascending row, padded with kNothing and -1.
    void write(Score* scores, std::int64_t* rows) {
        const std::size_t found = std::min(k_, entries_.size());
        std::partial_sort(entries_.begin(), entries_.begin() + found, entries_.end());
        for (std::size_t i = 0; i < found; ++i) {
            scores[i] = Order::score(entries_[i] >> 32);
            rows[i] = static_cast<std::uint32_t>(entries_[i]);
        }
        std::fill(scores + found, scores + k_, Order::kNothing);
        std::fill(rows + found, rows + k_, std::int64_t{-1});
    }

private:
    std::size_t k_;
    std::size_t capacity_;
    std::vector<std::uint64_t> entries_;  // key of the score above, row below: their order is the order of results
};

}  // namespace bebr
