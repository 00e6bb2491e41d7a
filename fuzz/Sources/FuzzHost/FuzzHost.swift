import AgentProtocol
import FuzzedClient

/// Bytes of a hostile guest against the host's session, with a process and requests of every kind under way.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzHost(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    var session = HostSession()
    _ = session.begin(epoch: 1)
    session.append(FrameHeader(.synchronise, offset: 1).encoded)
    session.add(1)
    var state = ProcessState()
    state.output = 1 << 20
    session.add(2, state: state)
    var kinds: [UInt64: RequestKind] = [:]
    for kind in RequestKind.allCases { kinds[session.request(kind, Done()).id] = kind }
    let input = [UInt8](UnsafeBufferPointer(start: data, count: size))
    // The first byte decides in how large pieces the rest arrives.
    let piece = max(1, Int(input.first ?? 1)) * 16
    var start = min(1, input.count)
    var held: [UInt64: Int] = [:]
    do {
        while start < input.count {
            session.append(Array(input[start..<min(start + piece, input.count)]))
            start += piece
            while let event = try session.next() {
                switch event {
                case .reply(let request, let payload): try decode(kinds[request], payload)
                case .output(let process, let stream, let bytes):
                    held[process * 2 + UInt64(stream.rawValue & 1), default: 0] += bytes.count
                    precondition(
                        held[process * 2 + UInt64(stream.rawValue & 1)]! <= Int(Limits.outputWindow), "more than a window is held")
                    if bytes.count % 2 == 0 {
                        _ = session.take(process, stream, bytes.count)
                        held[process * 2 + UInt64(stream.rawValue & 1)]! -= bytes.count
                    }
                case .credit(let process): _ = session.input(process, [UInt8](repeating: 1, count: 100)[...])
                case .exited(let process, _): session.remove(process)
                default: break
                }
            }
        }
    } catch {}
    return 0
}

private func decode(_ kind: RequestKind?, _ payload: [UInt8]) throws(WireError) {
    switch kind {
    case .hello, .quiesce: _ = try AgentState(decoding: payload)
    case .startProcess: _ = try ProcessStarted(decoding: payload)
    case .processes: _ = try ProcessList(decoding: payload)
    case .stats: _ = try ContainerStatistics(decoding: payload)
    case .ping, .setClock: _ = try ClockReading(decoding: payload)
    default: _ = try Done(decoding: payload)
    }
}
