// The best rows of one query that reads list after list of several parts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "candidates.hpp"
#include "topk.hpp"

namespace bebr {

// The n smallest keys (see topk.hpp) so far, with the worst of them on top.
class SmallestKeys {
public:
    explicit SmallestKeys(std::size_t n) : n_(n) {}

    void push(std::uint32_t key) {
        if (keys_.size() == n_) {
            if (key >= keys_.front()) return;
            std::pop_heap(keys_.begin(), keys_.end());
            keys_.back() = key;
        } else {
            keys_.push_back(key);
        }
        std::push_heap(keys_.begin(), keys_.end());
    }
    bool full() const { return keys_.size() == n_; }
    std::uint32_t worst() const { return keys_.front(); }

private:
    std::size_t n_;
    std::vector<std::uint32_t> keys_;
};

// All rows that score at least as much as the k-th best so far, and the score by which the query stops.
class ListBest {
public:
    // stop_at: which hit is the k-th of the rule, at most k.
    ListBest(std::size_t k, std::size_t stop_at, float floor)
        : best_(k), leaders_(stop_at), separate_(stop_at < k), floor_(floor), bound_(floor), capacity_(4 * k + 64) {}

    // What a row must score: as much as the k-th best, for rows that tie with it are wanted.
    float bound() const { return bound_; }

    // A row that is within the bound.
    void push(float score, std::uint32_t place, std::uint32_t row) {
        const std::uint32_t key = HighestScore::key(score);
        best_.push(key);
        if (separate_) leaders_.push(key);
        entries_.push_back({key, place, row});
        if (!best_.full()) return;
        bound_ = HighestScore::score(best_.worst());
        if (entries_.size() >= capacity_) cut();
    }

    // What the centroid of a list must score that it is read. It never falls.
    float least(float delta) const {
        const SmallestKeys& hits = separate_ ? leaders_ : best_;
        const float kth = hits.full() ? HighestScore::score(hits.worst()) : HighestScore::kNothing;
        return std::max(kth, floor_) - delta;
    }

    void write(Candidates& found) {
        cut();
        std::sort(entries_.begin(), entries_.end());
        for (const Entry& entry : entries_) {
            found.scores.push_back(HighestScore::score(entry.key));
            found.places.push_back(static_cast<std::int32_t>(entry.place));
            found.rows.push_back(entry.row);
        }
        found.starts.push_back(static_cast<std::int64_t>(found.scores.size()));
    }

private:
    struct Entry {
        std::uint32_t key;
        std::uint32_t place;
        std::uint32_t row;

        bool operator<(const Entry& other) const {
            return std::tie(key, place, row) < std::tie(other.key, other.place, other.row);
        }
    };

    void cut() {
        if (!best_.full()) return;
        const std::uint32_t worst = best_.worst();
        std::erase_if(entries_, [worst](const Entry& entry) { return entry.key > worst; });
        capacity_ = std::max(capacity_, 2 * entries_.size());
    }

    SmallestKeys best_, leaders_;
    bool separate_;
    float floor_, bound_;
    std::size_t capacity_;
    std::vector<Entry> entries_;
};

}  // namespace bebr
