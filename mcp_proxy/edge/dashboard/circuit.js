/** Which circuits belong to a tool (layers/breaker names them). */

const WORST = ["open", "half_open", "closed"];

/** Return the worst state of a tool's circuits, or null if it has none yet. */
export function stateOfTool(item, circuits, targets) {
  const name = item.service ? `${item.service}/${item.tool}` : item.tool;
  const found = new Set();
  for (const kind of ["tool", "method"]) {
    for (const among of ["", ...targets.map((one) => ` of ${one}`)]) {
      const circuit = circuits[`${kind} ${name}${among}`];
      if (circuit) found.add(circuit.state);
    }
  }
  return WORST.find((state) => found.has(state)) ?? null;
}

/** Return the targets' names. */
export function targetsOf(health) {
  return health ? (health.targets ?? [health.upstream]).map((one) => one.target) : [];
}
