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

#include "centroids.hpp"
#include "topk.hpp"

namespace bebr {

// Most queries read few lists: those that are probably among them are picked and sorted. Scores are not kept: whoever wants
// more lists than were picked scores and picks again. Where only the lists of some cells were scored, a query passes a share
// of them before more cells are scored.
class ListOrder {
public:
    // The first of the lists that were scored. `room` is shared by those that pick one after the other.
    void pick(std::span<const ScoredLists> scored, bool are_all, std::vector<std::uint32_t>& room) {
        const std::size_t count = begin(scored, are_all);
        const float least = threshold(scored, count);
        for (const ScoredLists& some : scored) {
            room.resize(some.scores.size());
            std::size_t picked = 0;
            for (std::size_t i = 0; i < some.scores.size(); ++i) {
                room[picked] = static_cast<std::uint32_t>(i);
                picked += some.scores[i] >= least;
            }
            for (const std::uint32_t i : std::span(room).first(picked))
                entries_.push_back(entry(some.scores[i], some.first + i));
        }
        has_others_ = !are_all || entries_.size() < count;
        sort();
    }

    // All others that score at least so much, of the same lists or of those of more cells.
    void pick_others(std::span<const ScoredLists> scored, bool are_all, std::size_t lists, float least) {
        for (const std::uint64_t passed : std::span(entries_).first(next_))
            passed_.push_back(static_cast<std::uint32_t>(passed));
        std::vector<bool> is_passed(lists);
        for (const std::uint32_t list : passed_) is_passed[list] = true;
        entries_.clear();
        begin(scored, are_all);
        for (const ScoredLists& some : scored)
            for (std::size_t i = 0; i < some.scores.size(); ++i)
                if (some.scores[i] >= least && !is_passed[some.first + i])
                    entries_.push_back(entry(some.scores[i], some.first + i));
        has_others_ = entries_.size() >= quota_;
        sort();
    }

    // Whether there is a next list among those that were picked; then `number` and `score` are its own, and `pop` passes it.
    bool has_next() const { return next_ < std::min(entries_.size(), quota_); }
    // Whether some were not picked.
    bool has_others() const { return has_others_; }
    bool are_all_scored() const { return quota_ == kNoQuota; }
    // For how many cells lists are scored next, see CentroidTable.
    std::size_t stage() const { return stage_ + (next_ >= quota_); }
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
    // As bebr.core.lists: one of so many lists that were scored is passed before more are scored.
    static constexpr std::size_t kPassed = 64;

    static std::uint64_t entry(float score, std::size_t list) {
        return std::uint64_t{HighestScore::key(score)} << 32 | list;
    }

    // How many lists were scored.
    std::size_t begin(std::span<const ScoredLists> scored, bool are_all) {
        std::size_t count = 0;
        for (const ScoredLists& some : scored) count += some.scores.size();
        stage_ = stage();
        quota_ = are_all ? kNoQuota : std::max(count / kPassed, passed_.size()) - passed_.size();
        return count;
    }

    // A score that about kPicked lists have.
    static float threshold(std::span<const ScoredLists> scored, std::size_t count) {
        if (count <= 2 * kPicked) return HighestScore::kNothing;
        const std::size_t step = count / kSampled + 1;
        std::vector<float> sample;
        std::size_t at = 0;
        for (const ScoredLists& some : scored) {
            for (; at < some.scores.size(); at += step) sample.push_back(some.scores[at]);
            at -= some.scores.size();
        }
        const auto picked = sample.begin() + static_cast<std::ptrdiff_t>(sample.size() * kPicked / count);
        std::nth_element(sample.begin(), picked, sample.end(), std::greater<>());
        return *picked;
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

    static constexpr std::size_t kNoQuota = ~std::size_t{0};

    std::vector<std::uint64_t> entries_;  // key of the score above, number of the list below
    std::vector<std::uint32_t> passed_;   // before these were picked
    bool has_others_ = false;
    std::size_t quota_ = kNoQuota;  // of the entries; then more cells are scored
    std::size_t stage_ = 0;
    std::size_t next_ = 0, told_ = 0, piece_ = kFirstPiece;
};

}  // namespace bebr
