#include "serve/access_log.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/error.hpp"
#include "serve/observer_records.hpp"

namespace mpishards::serve {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class AccessLogTest : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }

  static std::vector<Json> lines_of(const fs::path& path) {
    std::vector<Json> lines;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) lines.push_back(Json::parse(line));
    return lines;
  }

  const fs::path folder_ = fs::temp_directory_path() / ("mpishards_access_log_" + std::to_string(::getpid()));
  const fs::path path_ = folder_ / "access.log";
};

TEST_F(AccessLogTest, says_who_asked_what_and_how_it_ended) {
  const auto context = make_context("Search", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  context->request_id = "abc";
  AccessLog log(path_);
  RequestRecord record = make_record(context);
  record.batches = {make_batch(), make_batch()};
  log.request_finished(record);
  log.flush();
  const auto lines = lines_of(path_);
  ASSERT_EQ(lines.size(), 1U);
  const Json& line = lines[0];
  EXPECT_EQ(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(line["front"], "grpc");
  EXPECT_EQ(line["method"], "Search");
  EXPECT_EQ(line["collection"], "docs");
  EXPECT_EQ(line["nq"], 8);
  EXPECT_EQ(line["k"], 10);
  EXPECT_EQ(line["status"], "ok");
  EXPECT_EQ(line["seconds"], 0.07);
  EXPECT_EQ(line["queue_seconds"], 0.003);
  EXPECT_EQ(line["batch_seconds"], 0.12);
  EXPECT_EQ(line["search_seconds"], 0.1);
  EXPECT_EQ(line["request_bytes"], 3200);
  EXPECT_EQ(line["answer_bytes"], 960);
  EXPECT_EQ(line["peer"], "127.0.0.1:40000");
  EXPECT_EQ(line["request_id"], "abc");
}

TEST_F(AccessLogTest, time_is_utc_in_iso_8601) {
  const std::chrono::system_clock::time_point time{std::chrono::milliseconds(1769862896007)};
  const Json line = Json::parse(access_log_line(make_record(make_context()), time));
  EXPECT_EQ(line["time"], "2026-01-31T12:34:56.007Z");
}

TEST_F(AccessLogTest, holds_no_payload) {
  const std::string line = access_log_line(make_record(make_context(), "docs", Code::invalid_parameter), {});
  EXPECT_EQ(Json::parse(line)["status"], "invalid_parameter");
  // No digits: a random trace id may hold any.
  EXPECT_EQ(line.find("secret"), std::string::npos) << "reasons quote filters";
}

TEST_F(AccessLogTest, hostile_texts_stay_one_short_line) {
  const auto context = make_context("Search\n\"}");
  context->request_id = std::string(100000, 'x');
  const std::string line = access_log_line(make_record(context, "a\xff\xfe\nb"), {});
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_LT(line.size(), 2000U);
  EXPECT_EQ(Json::parse(line)["method"], "Search\n\"}");
}

TEST_F(AccessLogTest, appends_in_order) {
  for (int run = 0; run < 2; ++run) {
    AccessLog log(path_);
    for (int i = 0; i < 100; ++i) {
      auto record = make_record(make_context());
      record.k = run * 100 + i;
      log.request_finished(record);
    }
  }
  const auto lines = lines_of(path_);
  ASSERT_EQ(lines.size(), 200U);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(lines[static_cast<std::size_t>(i)]["k"], i);
}

TEST_F(AccessLogTest, goes_on_in_a_new_file_after_rotation) {
  AccessLog log(path_);
  log.request_finished(make_record(make_context()));
  log.flush();
  fs::rename(path_, folder_ / "access.log.1");
  log.reopen();
  log.request_finished(make_record(make_context()));
  log.flush();
  EXPECT_EQ(lines_of(folder_ / "access.log.1").size(), 1U);
  EXPECT_EQ(lines_of(path_).size(), 1U);
}

TEST_F(AccessLogTest, a_stuck_disk_delays_no_request_and_lost_lines_are_counted) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  const int reader = ::open(path_.c_str(), O_RDONLY | O_NONBLOCK);  // holds what a pipe holds, and no more
  ASSERT_GE(reader, 0);
  {
    AccessLog log(path_, 100);
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 5000; ++i) log.request_finished(make_record(make_context()));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
    EXPECT_GT(log.dropped(), 1000);
    std::thread drain([&] {
      std::array<char, 65536> buffer{};
      for (int idle = 0; idle < 100; ++idle) {
        if (::read(reader, buffer.data(), buffer.size()) > 0) idle = 0;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    });
    log.flush();
    drain.join();
  }
  ::close(reader);
}

TEST_F(AccessLogTest, a_full_disk_is_counted) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  AccessLog log("/dev/full");
  for (int i = 0; i < 3; ++i) log.request_finished(make_record(make_context()));
  log.flush();
  EXPECT_EQ(log.dropped(), 3);
}

TEST_F(AccessLogTest, a_folder_that_is_not_there_is_an_error) {
  EXPECT_THROW(AccessLog(folder_ / "nowhere" / "access.log"), Error);
}

}  // namespace
}  // namespace mpishards::serve
