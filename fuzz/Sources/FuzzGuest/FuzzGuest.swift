import AgentProtocol

/// Bytes against the agent's session and every request's message.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzGuest(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    var session = GuestSession()
    session.append(FrameHeader(.synchronise, offset: 1).encoded)
    let input = [UInt8](UnsafeBufferPointer(start: data, count: size))
    let piece = max(1, Int(input.first ?? 1)) * 16
    var start = min(1, input.count)
    var window = ReceiveWindow()
    var sending = SendWindow(limit: Limits.window)
    while start < input.count {
        session.append(Array(input[start..<min(start + piece, input.count)]))
        start += piece
        while true {
            do throws(WireError) {
                guard let event = try session.next() else { break }
                switch event {
                case .begin: session.greet()
                case .request(_, let kind, let payload): try decode(kind, payload)
                case .input(_, let offset, let bytes):
                    try window.accept(at: offset, count: bytes.count)
                    if bytes.count % 2 == 0 { _ = window.take(bytes.count) }
                    precondition(window.offset - window.taken <= Limits.window, "more than a window is held")
                case .inputEnd(_, let offset): try window.acceptEnd(at: offset)
                case .credit(_, _, let limit):
                    sending.allow(upTo: limit)
                    sending.sent(min(sending.allowance, Limits.data))
                case .unknownRequest: break
                }
            } catch {
                session.silence()
            }
        }
    }
    return 0
}

private func decode(_ kind: RequestKind, _ payload: [UInt8]) throws(WireError) {
    switch kind {
    case .hello: try again(Hello(decoding: payload))
    case .configureSandbox: try again(SandboxConfiguration(decoding: payload))
    case .setIdentity: try again(Identity(decoding: payload))
    case .setClock: try again(ClockCommand(decoding: payload))
    case .createContainer: try again(ContainerConfiguration(decoding: payload))
    case .startProcess: try again(ProcessConfiguration(decoding: payload))
    case .signal: try again(SignalRequest(decoding: payload))
    case .resize: try again(ResizeRequest(decoding: payload))
    case .closeProcess, .releaseProcess: try again(ProcessReference(decoding: payload))
    case .resizeMachine: try again(MachineSize(decoding: payload))
    case .closeOutput: try again(OutputReference(decoding: payload))
    case .processes, .stats, .removeContainer: try again(ContainerReference(decoding: payload))
    case .updateContainer: try again(UpdateRequest(decoding: payload))
    case .shutdown: try again(ShutdownRequest(decoding: payload))
    case .ping, .quiesce, .reclaim: try again(Done(decoding: payload))
    }
}

/// What was read must be written and read again as the same.
private func again<M: WireMessage & Equatable>(_ message: M) throws(WireError) {
    let copy = try M(decoding: message.encoded(), elements: 1 << 20)
    precondition(copy == message, "a message changed on its way")
}
