// Lists in the order of their centroids' scores, best first, of equal ones the lower number.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "topk.hpp"

namespace bebr {

// Most queries read few lists: those that are probably among them are picked first, and sorted piece by piece.
class ListOrder {
public:
    void add(const float* scores, std::size_t lists) {
        const std::size_t first = keys_.size();
        keys_.resize(first + lists);
        for (std::size_t list = 0; list < lists; ++list) keys_[first + list] = HighestScore::key(scores[list]);
    }

    // Once all are added.
    void start() { pick(threshold(), true); }

    // Whether there is a next list; then `number` and `score` are its own, and `pop` passes it.
    bool next() {
        if (next_ < sorted_) return true;
        if (sorted_ == picked_.size()) {
            if (!left_) return false;
            pick(last_key_, false);
            left_ = false;
        }
        sort_more();
        return true;
    }
    // Whether `next` is about to sort a piece.
    bool must_sort() const { return next_ == sorted_; }
    // The lists that come next, as far as they are sorted, with their numbers below.
    std::span<const std::uint64_t> sorted() const { return {picked_.data() + next_, sorted_ - next_}; }
    std::size_t number() const { return static_cast<std::uint32_t>(picked_[next_]); }
    float score() const { return HighestScore::score(static_cast<std::uint32_t>(picked_[next_] >> 32)); }
    void pop() { ++next_; }

private:
    static constexpr std::size_t kPicked = 320, kSampled = 512, kFirstPiece = 48;

    // A key that about kPicked lists are better than.
    std::uint32_t threshold() {
        if (keys_.size() <= 2 * kPicked) return last_key_ = ~0u;
        const std::size_t step = keys_.size() / kSampled + 1;
        std::vector<std::uint32_t> sample;
        for (std::size_t list = 0; list < keys_.size(); list += step) sample.push_back(keys_[list]);
        const auto at = sample.begin() + static_cast<std::ptrdiff_t>(sample.size() * kPicked / keys_.size());
        std::nth_element(sample.begin(), at, sample.end());
        return last_key_ = *at;
    }

    // Lists whose keys are at most `key`, or those of all others.
    void pick(std::uint32_t key, bool within) {
        picked_.resize(keys_.size());
        std::size_t count = 0;
        for (std::size_t list = 0; list < keys_.size(); ++list) {
            picked_[count] = std::uint64_t{keys_[list]} << 32 | list;
            count += (keys_[list] <= key) == within;
        }
        picked_.resize(count);
        left_ = within && count < keys_.size();
        next_ = sorted_ = 0;
    }

    void sort_more() {
        const auto first = picked_.begin() + static_cast<std::ptrdiff_t>(sorted_);
        sorted_ = std::min(picked_.size(), sorted_ + piece_);
        piece_ *= 2;
        const auto end = picked_.begin() + static_cast<std::ptrdiff_t>(sorted_);
        if (end != picked_.end()) std::nth_element(first, end, picked_.end());
        std::sort(first, end);
    }

    std::vector<std::uint32_t> keys_;
    std::vector<std::uint64_t> picked_;  // key of the score above, number of the list below
    std::uint32_t last_key_ = 0;
    bool left_ = false;  // lists that were not picked
    std::size_t next_ = 0, sorted_ = 0, piece_ = kFirstPiece;
};

}  // namespace bebr
