#include "app/supervisor.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "app/options.hpp"
#include "core/error.hpp"
#include "core/timer.hpp"

namespace mpishards::app {

namespace {

constexpr std::string_view kFlag = "--supervise";
constexpr int kLongestPauseSeconds = 30;
/// A server that lived this long did not die of its start.
constexpr double kLongLifeSeconds = 60;
constexpr std::array kHopeless = {64, 65, 66, 73, 77, 78};

std::atomic<pid_t> g_server{0};
std::atomic<bool> g_stop{false};

extern "C" void hand_on(int signal_number) {
  const bool reload = signal_number == SIGHUP || signal_number == SIGUSR2;
  if (!reload) g_stop = true;
  // mpirun passes these two on to the ranks; on SIGTERM it would end them itself.
  if (const pid_t server = g_server; server > 0) kill(server, reload ? SIGUSR2 : SIGUSR1);
}

void install_handlers() {
  struct sigaction action = {};
  action.sa_handler = hand_on;  // without SA_RESTART: waits end
  sigemptyset(&action.sa_mask);
  for (const int signal_number : {SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGUSR2})
    if (sigaction(signal_number, &action, nullptr) != 0)
      throw Error(ErrorKind::os, std::string("sigaction: ") + std::strerror(errno));
}

/// The arguments of the server, and how many ranks it shall have.
std::pair<Arguments, std::string> without_flag(const Arguments& arguments) {
  std::pair<Arguments, std::string> split;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == kFlag && i + 1 < arguments.size())
      split.second = arguments[++i];
    else if (argument.starts_with(std::string(kFlag) + "="))
      split.second = argument.substr(kFlag.size() + 1);
    else if (argument != kFlag)
      split.first.push_back(argument);
  }
  if (split.second.empty() || parse_count(split.second) < 1)
    throw Error(ErrorKind::usage, "--supervise needs the number of ranks, such as --supervise 4");
  return split;
}

/// The file that tells clients of the server, as the server itself will find it named; empty: there is none.
std::string discovery_file(const Arguments& arguments) {
  constexpr std::string_view kDiscovery = "--discovery-file";
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == kDiscovery && i + 1 < arguments.size()) return arguments[i + 1];
    if (arguments[i].starts_with(std::string(kDiscovery) + "="))
      return arguments[i].substr(kDiscovery.size() + 1);
  }
  const char* named = std::getenv("MPISHARDS_DISCOVERY_FILE");
  return named == nullptr ? "" : named;
}

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

pid_t start(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) throw Error(ErrorKind::os, std::string("fork: ") + std::strerror(errno));
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    setpgid(0, 0);  // a terminal's Ctrl-C reaches the supervisor alone, which then drains
    execvp(argv[0], argv.data());
    std::fprintf(stderr, "mpishards: can't start %s: %s\n", argv[0], std::strerror(errno));
    _exit(exit_code(ErrorKind::unavailable));
  }
  return child;
}

int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) throw Error(ErrorKind::os, std::string("waitpid: ") + std::strerror(errno));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

bool wants_supervisor(const Arguments& arguments) {
  return std::ranges::any_of(arguments, [](const std::string& argument) {
    return argument == kFlag || argument.starts_with(std::string(kFlag) + "=");
  });
}

int supervise(const Arguments& arguments) {
  const auto [own, ranks] = without_flag(arguments);
  std::vector<std::string> command = {"mpirun", "-n", ranks, std::filesystem::read_symlink("/proc/self/exe"),
                                      "serve"};
  command.insert(command.end(), own.begin(), own.end());
  install_handlers();
  const std::string discovery = discovery_file(own);
  int pause_seconds = 1;
  for (;;) {
    const double begin = steady_seconds();
    const std::string others = text_of(discovery);
    g_server = start(command);
    const int code = wait_for(g_server);
    g_server = 0;
    // A server that was killed could not take back what it told its clients.
    std::error_code ignored;
    if (code != 0 && text_of(discovery) != others) std::filesystem::remove(discovery, ignored);
    if (code == 0 || g_stop || std::ranges::find(kHopeless, code) != kHopeless.end()) return code;
    if (steady_seconds() - begin > kLongLifeSeconds) pause_seconds = 1;
    std::fprintf(stderr, "mpishards: the server ended with exit code %d; starting it again in %d s\n", code,
                 pause_seconds);
    sleep(static_cast<unsigned>(pause_seconds));
    if (g_stop) return code;
    pause_seconds = std::min(2 * pause_seconds, kLongestPauseSeconds);
  }
}

}  // namespace mpishards::app
