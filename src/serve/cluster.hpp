#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "rank/search_engine.hpp"
#include "serve/catalogue.hpp"
#include "serve/collection.hpp"
#include "serve/engine.hpp"
#include "serve/id_set.hpp"

namespace mpishards::serve {

/// The ranks of a server: rank 0 says what is done next, the others do it.
///
/// Every public method but load_all() and follow() runs on rank 0 alone, always on the thread that started
/// MPI: it sends a command, takes part in it, and returns the ranks' common answer. A failure that the ranks
/// agree upon is thrown here and leaves the cluster as it was; any other one ends the whole job.
class Cluster final : public Engine {
 public:
  /// Not collective. @param specs and comm outlive the cluster; the same specs on every rank
  Cluster(const std::vector<CollectionSpec>& specs, const rank::SearchEngineConfig& engine,
          const comm::Communicator& comm);
  ~Cluster() override;

  /// Loads every collection. Collective over comm. @throws comm::AgreedError
  void load_all();
  /// Does what rank 0 says, until it says stop. Every rank but 0.
  void follow();

  /// Begins to read a collection's files in the background of every rank: searches go on meanwhile.
  void begin_load(int slot);
  /// Whether rank 0 has read its rows of what begin_load began; the other ranks are about as far.
  bool is_read(int slot) const;
  /// Waits for what begin_load began and puts it into service. @throws comm::AgreedError: the old rows stay
  void finish_load(int slot);
  /// Frees a collection's memory; loading brings it back.
  void release(int slot);

  TopK search(int slot, Matrix queries, std::int64_t k, BatchRecord& record) override;
  /// The `limit` smallest ids in the set, ascending, each once.
  std::vector<GlobalId> select(int slot, const IdSet& set, std::int64_t limit);
  /// Rows whose ids are in the set.
  std::int64_t count(int slot, const IdSet& set);
  FetchedRows fetch(int slot, const std::vector<GlobalId>& ids);

  /// Touches every rank. @return whether any of them was asked to stop (rank::stop_level)
  /// @param begins_rest  a busy time is over: every rank gives free memory back to the system
  bool heartbeat(bool begins_rest);
  /// Ends follow() on the other ranks. Once, at the end.
  void stop();

  /// Rank 0 describes its collections here after each change.
  const Catalogue& catalogue() const { return catalogue_; }
  int n_ranks() const { return comm_.size(); }

 private:
  struct Command;
  struct Slot;
  enum class Verb : std::int32_t;

  void send(const Command& command);
  bool obey(const Command& command);
  CollectionPart& part(int slot);

  bool do_heartbeat(bool begins_rest) const;
  void do_begin_load(int slot);
  void do_finish_load(int slot);
  void do_release(int slot);
  TopK do_search(int slot, Matrix queries, std::int64_t k, BatchRecord* record);
  std::vector<GlobalId> do_select(int slot, IdSet set, std::int64_t limit);
  std::int64_t do_count(int slot, IdSet set);
  FetchedRows do_fetch(int slot, std::vector<GlobalId> ids);
  void describe(int slot, double load_seconds);
  void note_state(int slot, LoadState state);

  const std::vector<CollectionSpec>& specs_;
  rank::SearchEngineConfig engine_;
  const comm::Communicator& comm_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<std::string> hosts_;  // by rank, on rank 0
  Catalogue catalogue_;             // on rank 0
};

}  // namespace mpishards::serve
