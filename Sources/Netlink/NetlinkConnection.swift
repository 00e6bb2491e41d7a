import CLinux
import Glibc
public import LinuxSystem
import Synchronization

/// A request that the kernel refused.
public struct NetlinkError: HullError, Equatable {
    /// What was being done, and to what.
    public var operation: String
    /// The errno.
    public var code: Int32
    /// What the kernel said beyond it (NLMSGERR_ATTR_MSG); often empty.
    public var detail: String

    public var sentence: String {
        let reason = String(cString: strerror(code))
        return detail.isEmpty ? "\(operation): \(reason)" : "\(operation): \(reason) (\(detail))"
    }
}

/// A netlink socket of one protocol in one network namespace.
///
/// The calls do not suspend: the kernel answers a request inside of sendmsg(2), and a dump inside of recvmsg(2), so
/// there is nothing to wait for. One caller at a time, which the loop's one thread gives.
final class NetlinkConnection: Sendable {
    private let descriptor: SharedDescriptor
    private let sequence = Atomic<UInt32>(1)

    /// `family` is NETLINK_ROUTE or NETLINK_NETFILTER; `namespace` nil is where the calling thread is.
    init(family: Int32, in namespace: NetworkNamespace?) throws {
        func open() throws -> SharedDescriptor {
            SharedDescriptor(
                owning: try checked("open a netlink socket") { socket(AF_NETLINK, Int32(SOCK_RAW.rawValue) | O_CLOEXEC, family) })
        }
        descriptor = try namespace.map { try $0.inside(open) } ?? open()
        var on: Int32 = 1
        // Only better words are lost without it.
        setsockopt(descriptor.raw, 270 /* SOL_NETLINK */, 11 /* NETLINK_EXT_ACK */, &on, 4)
        // The kernel answers at once; whatever goes wrong, nobody waits here for ever.
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        try checked("bound a netlink socket") {
            setsockopt(
                descriptor.raw, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    /// Sends a request and waits for its acknowledgement.
    func request(
        _ operation: @autoclosure () -> String, _ type: UInt16, flags: UInt16 = 0, _ fixed: [UInt8],
        _ attributes: NetlinkAttributes = NetlinkAttributes()
    ) throws {
        _ = try exchange(
            operation(), type, RouteMessage.Flag.request | RouteMessage.Flag.acknowledge | flags,
            fixed + attributes.bytes)
    }

    /// Asks for all of a kind.
    func dump(_ operation: @autoclosure () -> String, _ type: UInt16, _ fixed: [UInt8]) throws
        -> [NetlinkMessage]
    {
        try exchange(
            operation(), type, RouteMessage.Flag.request | RouteMessage.Flag.dump, fixed)
    }

    /// Asks for one; the kernel answers with it and, asked to, with an acknowledgement.
    func get(
        _ operation: @autoclosure () -> String, _ type: UInt16, _ fixed: [UInt8],
        _ attributes: NetlinkAttributes
    ) throws -> [NetlinkMessage] {
        try exchange(
            operation(), type, RouteMessage.Flag.request | RouteMessage.Flag.acknowledge,
            fixed + attributes.bytes)
    }

    private func exchange(
        _ operation: @autoclosure () -> String, _ type: UInt16, _ flags: UInt16, _ payload: [UInt8]
    ) throws -> [NetlinkMessage] {
        let number = sequence.wrappingAdd(1, ordering: .relaxed).oldValue
        let bytes = NetlinkMessage(type: type, flags: flags, sequence: number, payload: payload)
            .encoded()
        try checked(operation()) { bytes.withUnsafeBytes { send(descriptor.raw, $0.baseAddress, $0.count, 0) } }
        var answers: [NetlinkMessage] = []
        while true {
            for message in try NetlinkMessage.decode(receive(operation()))
            where message.sequence == number {
                switch message.type {
                case 2:  // NLMSG_ERROR; zero is the acknowledgement
                    guard let error: Int32 = message.payload.native(at: 0) else {
                        throw MalformedMessage("an acknowledgement")
                    }
                    if error != 0 {
                        throw NetlinkError(
                            operation: operation(), code: -error, detail: Self.detail(of: message))
                    }
                    return answers
                case 3: return answers  // NLMSG_DONE
                default: answers.append(message)
                }
            }
        }
    }

    private func receive(_ operation: String) throws(SystemError) -> [UInt8] {
        // The kernel never makes a longer one (NLMSG_GOODSIZE, 32 KiB for dumps); MSG_TRUNC would tell.
        let capacity = 65536
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            var got: Int
            repeat {
                got = recv(descriptor.raw, buffer.baseAddress, capacity, 0x20 /* MSG_TRUNC */)
            } while got < 0 && errno == EINTR
            failure = got < 0 ? errno : got > capacity ? EMSGSIZE : 0
            count = failure == 0 ? got : 0
        }
        if failure != 0 { throw SystemError(operation, code: failure == EAGAIN ? ETIMEDOUT : failure) }
        return bytes
    }

    /// NLMSGERR_ATTR_MSG, which follows the error and (unless capped) the whole request.
    static func detail(of message: NetlinkMessage) -> String {
        guard message.flags & 0x200 /* NLM_F_ACK_TLVS */ != 0,
            let length: UInt32 = message.payload.native(at: 4)
        else { return "" }
        let offset = 4 + (message.flags & 0x100 /* NLM_F_CAPPED */ != 0 ? 16 : (Int(length) + 3) & ~3)
        // Words that cannot be read are no reason to lose the error itself.
        guard let attributes = try? NetlinkAttributes.decode(message.payload, from: offset) else {
            return ""
        }
        return attributes[1]?.zeroTerminated ?? ""
    }
}
