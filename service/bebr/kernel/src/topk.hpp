// The k best rows of one query: an unordered buffer that is cut back to k whenever it is full, and a bound that tells
// the kernel what is still worth offering. Almost every row fails the bound, so the buffer costs next to nothing.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace bebr {

// Scores of sdc and adc: higher is better. Keys order the other way round, so that the smallest key is the best.
struct HighestScore {
    using Score = float;
    static constexpr bool kHigherIsBetter = true;
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
    static constexpr bool kHigherIsBetter = false;
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

    // A larger buffer is cut back less often; a smaller one keeps the bound tighter. ties: rows that tie with the k-th
    // best are kept, too.
    explicit TopK(std::size_t k, bool ties = false)
        : k_(k), capacity_(k + std::max<std::size_t>(k / 2, 8)), ties_(ties) {}

    // Adds a row. True when the buffer was cut back: then `bound()` is tighter than before.
    bool push(Score score, std::uint32_t row) {
        entries_.push_back(std::uint64_t{Order::key(score)} << 32 | row);
        if (entries_.size() < capacity_) return false;
        cut();
        if (ties_) capacity_ = std::max(capacity_, 2 * entries_.size());
        return true;
    }

    // Valid after `push` returned true.
    Score bound() const {
        const Score kth = Order::score(entries_[k_ - 1] >> 32);
        return ties_ ? kth : Order::bound_after(kth);
    }

    // Calls take(key, row) for what is kept, in no order.
    template <class Take>
    void each(const Take& take) {
        if (entries_.size() > k_) cut();
        for (const std::uint64_t entry : entries_)
            take(static_cast<std::uint32_t>(entry >> 32), static_cast<std::uint32_t>(entry));
    }

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
    void cut() {
        const auto kth = entries_.begin() + (k_ - 1);
        std::nth_element(entries_.begin(), kth, entries_.end());
        const std::uint64_t worst = *kth >> 32;
        entries_.erase(ties_ ? std::partition(kth + 1, entries_.end(),
                                              [worst](std::uint64_t entry) { return entry >> 32 == worst; })
                             : kth + 1,
                       entries_.end());
    }

    std::size_t k_;
    std::size_t capacity_;
    bool ties_;
    std::vector<std::uint64_t> entries_;  // key of the score above, row below: their order is the order of results
};

// The k best items of each of many labels, best first, ties by ascending item; where an Entry has 128 bits, by ascending
// rank of what the caller says of them.
using RankedEntry = unsigned __int128;

template <class Order, class Entry = std::uint64_t>
class BestOfLabels {
public:
    using Score = typename Order::Score;

    BestOfLabels(std::size_t labels, std::size_t k) : k_(k), entries_(labels * k, kEmpty), filled_(labels, 0) {}

    // Keeps the entries of a label as a heap with its worst on top.
    void push(std::size_t label, Score score, std::uint32_t rank, std::uint32_t item) {
        Entry entry = Entry{Order::key(score)} << kKeyAt | item;
        if constexpr (kRanked) entry |= Entry{rank} << 32;
        Entry* const first = entries_.data() + label * k_;
        std::uint32_t& filled = filled_[label];
        if (filled == k_) {
            if (entry >= *first) return;
            std::pop_heap(first, first + k_);
            first[k_ - 1] = entry;
        } else {
            full_ += filled + 1 == k_;
            first[filled++] = entry;
        }
        std::push_heap(first, first + filled);
    }

    // A score below which nothing can change what is asked for, if there is one: with k = 1 the best of the `wanted`
    // best labels, else the k-th best of every label.
    std::optional<Score> bound(std::size_t wanted) {
        const std::size_t labels = filled_.size(), needed = k_ == 1 ? std::min(wanted, labels) : labels;
        if (labels > kMostRanked || full_ < needed || needed == 0) return std::nullopt;
        worst_.resize(labels);
        for (std::size_t label = 0; label < labels; ++label) worst_[label] = entries_[label * k_];
        std::nth_element(worst_.begin(), worst_.begin() + (needed - 1), worst_.end());
        return Order::score(key_of(worst_[needed - 1]));
    }

    // Writes (labels, k) scores and items, padded with kNothing and -1.
    void write(Score* scores, std::int64_t* items) {
        for (std::size_t label = 0; label < filled_.size(); ++label) {
            Entry* const first = entries_.data() + label * k_;
            std::sort(first, first + filled_[label]);
            for (std::size_t i = 0; i < k_; ++i) {
                const bool found = i < filled_[label];
                scores[label * k_ + i] = found ? Order::score(key_of(first[i])) : Order::kNothing;
                items[label * k_ + i] = found ? static_cast<std::uint32_t>(first[i]) : std::int64_t{-1};
            }
        }
    }

private:
    static constexpr bool kRanked = sizeof(Entry) > sizeof(std::uint64_t);
    static constexpr int kKeyAt = kRanked ? 64 : 32;
    static constexpr Entry kEmpty = ~Entry{0};  // worse than any
    static constexpr std::size_t kMostRanked = 1 << 16;         // finding a bound among more costs more than it saves

    std::size_t k_;
    static std::uint32_t key_of(Entry entry) { return static_cast<std::uint32_t>(entry >> kKeyAt); }

    std::vector<Entry> entries_;  // key of the score above, then the rank if there is one, item below
    std::vector<std::uint32_t> filled_;
    std::size_t full_ = 0;
    std::vector<Entry> worst_;
};

}  // namespace bebr
