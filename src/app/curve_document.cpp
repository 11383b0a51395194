#include "app/curve_document.hpp"

#include <cmath>
#include <functional>

#include "app/options.hpp"
#include "core/error.hpp"
#include "io/file.hpp"

namespace mpishards::app {

namespace {

using nlohmann::json;

constexpr const char* kSchema = "mpishards.curve/1";

json or_null(const std::optional<double>& value) {
  return value ? json(*value) : json();
}

std::optional<double> optional_number(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return std::nullopt;
  return found->get<double>();
}

json to_json(const MeasuredPoint& point) {
  json recall = json::object();
  for (const auto& [at, share] : point.recall) recall[std::to_string(at)] = share;
  json out = {
      {"parameter", point.parameter}, {"recall", recall}, {"queries_per_second", point.queries_per_second}};
  if (point.rows_share) out["rows_share"] = *point.rows_share;
  return out;
}

json to_json(const SystemCurve& curve) {
  json points = json::array();
  for (const MeasuredPoint& point : curve.points) points.push_back(to_json(point));
  return {{"name", curve.name},
          {"version", curve.version},
          {"machine", curve.machine},
          {"ranks", curve.ranks},
          {"threads", curve.threads},
          {"build_seconds", or_null(curve.build_seconds)},
          {"bytes_per_vector", or_null(curve.bytes_per_vector)},
          {"points", points}};
}

/// What is wrong with a document, said without its name.
struct Complaint {
  std::string text;
};

MeasuredPoint point_of(const json& in, const CurveQuestion& question) {
  MeasuredPoint point{in.at("parameter").get<std::string>(),
                      {},
                      in.at("queries_per_second").get<double>(),
                      optional_number(in, "rows_share")};
  for (const auto& [at, share] : in.at("recall").items()) {
    point.recall[parse_count(at)] = share.get<double>();
    if (!(share.get<double>() >= 0 && share.get<double>() <= 1))
      throw Complaint{"recall@" + at + " = " + share.dump() + " is no share from 0 to 1"};
  }
  if (!point.recall.contains(question.plotted_at()))
    throw Complaint{"'" + point.parameter + "' has no recall@" + std::to_string(question.plotted_at())};
  if (!(point.queries_per_second > 0) || !std::isfinite(point.queries_per_second))
    throw Complaint{"'" + point.parameter + "' has " + in.at("queries_per_second").dump() +
                    " queries_per_second, expected a positive number"};
  return point;
}

SystemCurve curve_of(const json& in, const CurveQuestion& question) {
  SystemCurve curve{.name = in.at("name").get<std::string>(),
                    .version = in.value("version", ""),
                    .machine = in.value("machine", ""),
                    .ranks = in.value("ranks", std::int64_t{1}),
                    .threads = in.value("threads", std::int64_t{1}),
                    .build_seconds = optional_number(in, "build_seconds"),
                    .bytes_per_vector = optional_number(in, "bytes_per_vector"),
                    .points = {}};
  for (const json& point : in.at("points")) curve.points.push_back(point_of(point, question));
  if (curve.points.empty()) throw Complaint{"'" + curve.name + "' has no points"};
  return curve;
}

CurveDocument document_of(const json& in) {
  const std::string schema = in.value("schema", "none");
  if (schema != kSchema) throw Complaint{"its schema is " + schema + ", expected " + kSchema};
  CurveDocument document;
  document.question = {in.at("metric").get<std::string>(), in.at("rows").get<std::int64_t>(),
                       in.at("d").get<std::int64_t>(), in.at("nq").get<std::int64_t>(),
                       in.at("k").get<std::int64_t>()};
  document.base = in.value("base", "");
  document.queries = in.value("queries", "");
  document.truth = in.value("truth", "");
  document.by_distance = in.value("recall_by", "distance") == "distance";
  for (const json& curve : in.at("curves")) document.curves.push_back(curve_of(curve, document.question));
  return document;
}

}  // namespace

std::string to_string(const CurveQuestion& question) {
  return std::to_string(question.rows) + " x " + std::to_string(question.d) + ", " + question.metric + ", " +
         std::to_string(question.nq) + " queries, k = " + std::to_string(question.k);
}

json to_json(const CurveDocument& document) {
  json curves = json::array();
  for (const SystemCurve& curve : document.curves) curves.push_back(to_json(curve));
  return {{"schema", kSchema},
          {"metric", document.question.metric},
          {"rows", document.question.rows},
          {"d", document.question.d},
          {"nq", document.question.nq},
          {"k", document.question.k},
          {"base", document.base},
          {"queries", document.queries},
          {"truth", document.truth},
          {"recall_by", document.by_distance ? "distance" : "id"},
          {"curves", curves}};
}

CurveDocument parse_curve_document(const std::string& text, const std::string& path) {
  std::string complaint;
  try {
    return document_of(json::parse(text));
  } catch (const json::exception& error) {
    complaint = error.what();
  } catch (const Error& error) {
    complaint = error.what();
  } catch (const Complaint& error) {
    complaint = error.text;
  }
  throw Error(ErrorKind::data,
              path + " is no curve: " + complaint + "; give what mpishards eval --curve --json printed");
}

CurveDocument read_curve_document(const std::string& path) {
  return parse_curve_document(io::read_text(path), path);
}

}  // namespace mpishards::app
