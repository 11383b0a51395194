#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mpishards {

/// l2: squared Euclidean distance, smaller is better. ip: inner product, larger is better.
/// cosine: cosine similarity, larger is better; 0 where either vector is zero.
enum class Metric : std::uint8_t { l2, ip, cosine };

bool smaller_is_better(Metric metric);

/// +inf where smaller is better, -inf where larger is: pads answers shorter than k.
float worst_distance(Metric metric);

std::string_view to_string(Metric metric);

/// @throws Error{usage} naming the known metrics
Metric metric_from_string(std::string_view text);

/// "l2, ip, cosine", for help texts and messages.
std::string metric_names();

}  // namespace mpishards
