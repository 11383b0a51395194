#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "serve/trace.hpp"

namespace mpishards::serve {
namespace {

using Json = nlohmann::ordered_json;

/// Chrome's viewers draw a span below the one that encloses it on the same track. So requests that overlap
/// need tracks of their own: each takes the first lane that is free, and each rank has a track beside the
/// lane.
class TraceFile final : public TraceSink {
 public:
  explicit TraceFile(const std::filesystem::path& path) : file_(std::fopen(path.c_str(), "we")) {
    if (file_ != nullptr) {
      std::fputs("[\n", file_.get());
      return;
    }
    const int reason = errno;
    throw Error(
        kind_of_errno(reason, ErrorKind::cannot_create),
        path.string() + ": can't create the trace file (" + std::strerror(reason) + "); name another file");
  }
  ~TraceFile() override { std::fputs("\n]\n", file_.get()); }
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  std::int64_t write(const std::vector<RequestTrace>& traces) override {
    std::int64_t lost = 0;
    for (const RequestTrace& trace : traces) lost += write(trace) ? 0 : 1;
    if (std::fflush(file_.get()) != 0) return static_cast<std::int64_t>(traces.size());
    return lost;
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  static constexpr int kTracksOfLane = 1 << 12;  // the request's and its ranks'

  bool write(const RequestTrace& trace) {
    const Span& request = trace.spans.front();
    const int first_track = lane_for(request.begin_ns, request.end_ns) * kTracksOfLane;
    bool is_written = true;
    for (const Span& span : trace.spans) {
      const int track = first_track + (span.rank + 1) % kTracksOfLane;
      name_track(track, span.rank < 0 ? "request" : "rank " + std::to_string(span.rank));
      Json arguments = {{"trace_id", trace.trace_id}};
      for (const auto& [key, value] : span.attributes) {
        std::visit([&, &name = key](const auto& each) { arguments[name] = each; }, value);
      }
      is_written = write({{"name", span.name},
                          {"ph", "X"},
                          {"ts", static_cast<double>(span.begin_ns) / 1000},
                          {"dur", static_cast<double>(span.end_ns - span.begin_ns) / 1000},
                          {"pid", 1},
                          {"tid", track},
                          {"args", std::move(arguments)}}) &&
                   is_written;
    }
    return is_written;
  }

  /// Requests come in order of their ends, so a lane is free where its last one ended before this one began.
  int lane_for(std::int64_t begin_ns, std::int64_t end_ns) {
    std::size_t lane = 0;
    while (lane < lane_ends_ns_.size() && lane_ends_ns_[lane] > begin_ns) ++lane;
    if (lane == lane_ends_ns_.size()) lane_ends_ns_.push_back(0);
    lane_ends_ns_[lane] = end_ns;
    return static_cast<int>(lane);
  }

  void name_track(int track, const std::string& name) {
    const auto index = static_cast<std::size_t>(track);
    if (index >= is_named_.size()) is_named_.resize(index + 1);
    if (is_named_[index]) return;
    is_named_[index] = true;
    write({{"name", "thread_name"}, {"ph", "M"}, {"pid", 1}, {"tid", track}, {"args", {{"name", name}}}});
  }

  bool write(const Json& event) {
    const std::string text = event.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (std::exchange(has_events_, true)) std::fputs(",\n", file_.get());
    return std::fwrite(text.data(), 1, text.size(), file_.get()) == text.size();
  }

  std::unique_ptr<std::FILE, Close> file_;
  bool has_events_ = false;
  std::vector<std::int64_t> lane_ends_ns_;
  std::vector<bool> is_named_;
};

}  // namespace

std::unique_ptr<TraceSink> make_trace_file_sink(const std::filesystem::path& path) {
  return std::make_unique<TraceFile>(path);
}

}  // namespace mpishards::serve
