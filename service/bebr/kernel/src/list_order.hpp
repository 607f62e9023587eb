// Lists in the order of their centroids' scores, best first, of equal ones the lower number.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "topk.hpp"

namespace bebr {

// Most queries read few lists: those that are probably among them are picked and sorted. Scores are not kept: whoever wants
// more lists than were picked picks again.
class ListOrder {
public:
    // The first lists of all. `room` is shared by those that pick one after the other.
    void pick(std::span<const float> scores, std::vector<std::uint32_t>& room) {
        const float least = threshold(scores);
        room.resize(scores.size());
        std::size_t count = 0;
        for (std::size_t list = 0; list < scores.size(); ++list) {
            room[count] = static_cast<std::uint32_t>(list);
            count += scores[list] >= least;
        }
        has_others_ = count < scores.size();
        for (const std::uint32_t list : std::span(room).first(count)) entries_.push_back(entry(scores[list], list));
        sort();
    }

    // All others that score at least so much. The same scores again.
    void pick_others(std::span<const float> scores, float least) {
        std::vector<bool> passed(scores.size());
        for (const std::uint64_t passed_entry : entries_) passed[static_cast<std::uint32_t>(passed_entry)] = true;
        entries_.clear();
        for (std::size_t list = 0; list < scores.size(); ++list)
            if (scores[list] >= least && !passed[list]) entries_.push_back(entry(scores[list], list));
        has_others_ = false;
        sort();
    }

    // Whether there is a next list among those that were picked; then `number` and `score` are its own, and `pop` passes it.
    bool has_next() const { return next_ < entries_.size(); }
    // Whether some were not picked.
    bool has_others() const { return has_others_; }
    std::size_t number() const { return static_cast<std::uint32_t>(entries_[next_]); }
    float score() const { return HighestScore::score(static_cast<std::uint32_t>(entries_[next_] >> 32)); }
    void pop() { ++next_; }

    // The lists that come next, with their numbers below, if the last ones that this told have been passed.
    std::span<const std::uint64_t> upcoming() {
        if (next_ < told_) return {};
        const std::size_t first = told_;
        told_ = std::min(entries_.size(), told_ + piece_);
        piece_ *= 2;
        return {entries_.data() + first, told_ - first};
    }

private:
    static constexpr std::size_t kPicked = 448, kSampled = 256, kFirstPiece = 48;

    static std::uint64_t entry(float score, std::size_t list) {
        return std::uint64_t{HighestScore::key(score)} << 32 | list;
    }

    // A score that about kPicked lists have.
    static float threshold(std::span<const float> scores) {
        if (scores.size() <= 2 * kPicked) return HighestScore::kNothing;
        const std::size_t step = scores.size() / kSampled + 1;
        std::vector<float> sample;
        for (std::size_t list = 0; list < scores.size(); list += step) sample.push_back(scores[list]);
        const auto at = sample.begin() + static_cast<std::ptrdiff_t>(sample.size() * kPicked / scores.size());
        std::nth_element(sample.begin(), at, sample.end(), std::greater<>());
        return *at;
    }

    // Buckets of a few entries each come first, without a comparison that a processor might guess wrong.
    void sort() {
        next_ = told_ = 0;
        piece_ = kFirstPiece;
        if (entries_.size() <= kFirstPiece) return std::sort(entries_.begin(), entries_.end());
        std::uint64_t least = ~std::uint64_t{0}, most = 0;
        for (const std::uint64_t entry : entries_) least = std::min(least, entry), most = std::max(most, entry);
        const int spare = std::countl_zero(entries_.size()) - std::countl_zero(most - least);
        const int shift = std::max(32, spare);
        std::vector<std::uint32_t> ends(((most - least) >> shift) + 2);
        for (const std::uint64_t entry : entries_) ++ends[((entry - least) >> shift) + 1];
        std::partial_sum(ends.begin(), ends.end(), ends.begin());
        std::vector<std::uint64_t> sorted(entries_.size());
        for (const std::uint64_t entry : entries_) sorted[ends[(entry - least) >> shift]++] = entry;
        auto first = sorted.begin();
        for (const std::uint32_t end : ends) {
            const auto last = sorted.begin() + end;
            if (last - first > 1) std::sort(first, last);
            first = last;
        }
        entries_ = std::move(sorted);
    }

    std::vector<std::uint64_t> entries_;  // key of the score above, number of the list below
    bool has_others_ = false;
    std::size_t next_ = 0, told_ = 0, piece_ = kFirstPiece;
};

}  // namespace bebr
