/// Names for containers that were given none: an adjective and a part of a ship.
enum ContainerName {
    private static let adjectives = [
        "amber", "agile", "azure", "bold", "brave", "bright", "brisk", "calm", "candid", "clever",
        "cobalt", "cool", "coral", "crisp",
        "dapper", "daring", "deft", "eager", "early", "fair", "fleet", "fond", "free", "fresh",
        "gentle", "glad", "golden", "grand",
        "green", "happy", "hardy", "honest", "humble", "ivory", "jolly", "keen", "kind", "light",
        "lively", "loyal", "lucid", "lucky",
        "mellow", "merry", "mighty", "neat", "nimble", "noble", "patient", "plain", "polite", "proud",
        "quick", "quiet", "rapid", "ready",
        "royal", "sharp", "silent", "silver", "smart", "solid", "spry", "steady", "sturdy", "sunny",
        "swift", "tidy", "true", "vivid",
        "warm", "wise", "witty", "young",
    ]
    private static let parts = [
        "anchor", "ballast", "barge", "batten", "beacon", "berth", "bilge", "boom", "bow", "brig",
        "buoy", "cabin", "canoe", "capstan",
        "clipper", "compass", "cutter", "davit", "deck", "dinghy", "dock", "ferry", "frigate", "galley",
        "gunwale", "halyard", "harbor",
        "hatch", "hawser", "helm", "jetty", "jib", "junk", "keel", "ketch", "lantern", "lugger", "mast",
        "mooring", "oar", "packet",
        "pinnace", "porthole", "prow", "quay", "rigging", "rudder", "sail", "schooner", "sextant",
        "shroud", "skiff", "sloop", "spar",
        "starboard", "stern", "tender", "tiller", "topsail", "trawler", "tug", "wharf", "winch",
        "yacht", "yawl",
    ]

    static func random() -> String {
        var random = SystemRandomNumberGenerator()
        return
            "\(adjectives.randomElement(using: &random)!)_\(parts.randomElement(using: &random)!)\(Int.random(in: 0..<1000, using: &random))"
    }
}
