// ALPC: messages and ports. A client that waits for a reply points to its message, the message to the thread
// that took it, or to the port's queue it still lies in.
// Facts: public PDBs (_ALPC_PORT, _KALPC_MESSAGE); what the members mean: published output of WinDbg's !alpc.
#pragma once

#include <string>
#include <vector>

#include "nt/object.h"
#include "nt/walk.h"

namespace unhang::nt {

struct ALPC_PORT {
  static constexpr TypeName kType{"_ALPC_PORT"};
  static inline const Member<VirtAddr> CommunicationInfo{kType, "CommunicationInfo"};
  static inline const Member<VirtAddr> OwnerProcess{kType, "OwnerProcess"};
  static inline const Member<VirtAddr> CompletionPort{kType, "CompletionPort"};
  static inline const Member<ListEntry> MainQueue{kType, "MainQueue"};
  static inline const Member<ListEntry> LargeMessageQueue{kType, "LargeMessageQueue"};
  static inline const Member<ListEntry> PendingQueue{kType, "PendingQueue"};
  static inline const Member<ListEntry> WaitQueue{kType, "WaitQueue"};
  static inline const Member<u32> MainQueueLength{kType, "MainQueueLength"};
  static inline const Member<u32> PendingQueueLength{kType, "PendingQueueLength"};
  static inline const Member<u32> State{kType, "u1.State"};
  static inline const Member<u32> Type{kType, "u1.s1.Type"};
};

struct ALPC_COMMUNICATION_INFO {
  static constexpr TypeName kType{"_ALPC_COMMUNICATION_INFO"};
  static inline const Member<VirtAddr> ConnectionPort{kType, "ConnectionPort"};
  static inline const Member<VirtAddr> ServerCommunicationPort{kType, "ServerCommunicationPort"};
  static inline const Member<VirtAddr> ClientCommunicationPort{kType, "ClientCommunicationPort"};
};

struct KALPC_MESSAGE {
  static constexpr TypeName kType{"_KALPC_MESSAGE"};
  static inline const Member<ListEntry> Entry{kType, "Entry"};
  static inline const Member<VirtAddr> PortQueue{kType, "PortQueue"};
  static inline const Member<VirtAddr> OwnerPort{kType, "OwnerPort"};
  static inline const Member<VirtAddr> WaitingThread{kType, "WaitingThread"};
  static inline const Member<VirtAddr> ServerThread{kType, "ServerThread"};
  static inline const Member<VirtAddr> ConnectionPort{kType, "ConnectionPort"};
  static inline const Member<VirtAddr> QuotaProcess{kType, "QuotaProcess"};
  static inline const Member<u32> MessageId{kType, "PortMessage.MessageId"};
  static inline const Member<u32> CallbackId{kType, "PortMessage.CallbackId"};
  static inline const Member<i32> SequenceNo{kType, "SequenceNo"};
};

struct AlpcMessage {
  VirtAddr address{};
  VirtAddr waiting_thread{};  // that waits for the reply
  VirtAddr server_thread{};   // that took the message; null: nobody has
  VirtAddr queue_port{};      // the port whose queue it is on
  VirtAddr owner_port{};      // the sender's
  VirtAddr connection_port{};
  u32 id = 0;
  i32 sequence = 0;
  bool taken() const { return is_kernel(server_thread); }
  // Whose queue it is on, or was put on first.
  VirtAddr port() const { return is_kernel(queue_port) ? queue_port : connection_port; }
};

struct AlpcPort {
  VirtAddr address{};
  VirtAddr owner_process{};
  VirtAddr connection_port{}, server_port{}, client_port{};
  VirtAddr completion_port{};
  u32 main_length = 0, pending_length = 0;
  std::vector<VirtAddr> main, pending;  // messages
  Walk main_walk, pending_walk;
};

// Errors: those of reading, implausible (what stands there is no message of this thread).
Result<AlpcMessage> read_alpc_message(const Target& target, VirtAddr va);
// The message whose reply a thread waits for (WrLpcReply). The member is shared with another use: implausible
// unless the message names the thread as the one that waits.
Result<AlpcMessage> awaited_message(const Target& target, VirtAddr thread);
Result<AlpcPort> read_alpc_port(const Target& target, VirtAddr va);

// "ALPC_CONNECTION_PORT" by which side of its connection a port is.
std::string_view port_kind(const AlpcPort& port);

}  // namespace unhang::nt
