#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace mpishards::app {

/// One setting of a program: how much it found, and how fast.
struct MeasuredPoint {
  std::string parameter;                  // "nprobe 16"
  std::map<std::int64_t, double> recall;  // at so many neighbors: share that was found
  double queries_per_second = 0;
  std::optional<double> rows_share;  // of the base that a query was compared with
};

/// What one program reached with its settings.
struct SystemCurve {
  std::string name;
  std::string version;
  std::string machine;
  std::int64_t ranks = 1;
  std::int64_t threads = 1;  // of a rank
  std::optional<double> build_seconds;
  std::optional<double> bytes_per_vector;  // of the index on disk
  std::vector<MeasuredPoint> points;
};

/// What all curves of one plot must have in common.
struct CurveQuestion {
  std::string metric;
  std::int64_t rows = 0;
  std::int64_t d = 0;
  std::int64_t nq = 0;
  std::int64_t k = 0;

  /// The number of neighbors whose recall is drawn.
  std::int64_t plotted_at() const { return k < 10 ? k : 10; }
  friend bool operator==(const CurveQuestion&, const CurveQuestion&) = default;
};
/// "60000 x 784, l2, 10000 queries, k = 100"
std::string to_string(const CurveQuestion& question);

/// What `eval --curve --json` prints, and --peers reads: schema "mpishards.curve/1".
struct CurveDocument {
  CurveQuestion question;
  std::string base;
  std::string queries;
  std::string truth;
  bool by_distance = true;  // recall counts an equal distance as found; else the same id alone
  std::vector<SystemCurve> curves;
};
nlohmann::json to_json(const CurveDocument& document);

/// Question and curves of a file, and "" for what it does not tell.
/// @throws Error{input_missing|permission}; Error{data} naming the file where it is no such document
CurveDocument read_curve_document(const std::string& path);

/// The same for text at hand. @param path  for messages
CurveDocument parse_curve_document(const std::string& text, const std::string& path);

}  // namespace mpishards::app
