extension Row {
    /// The checklist.
    static let all: [Row] = processes + storage + resources + networks + lives + podmans + containerds + kubernetes + checkpoints
}
