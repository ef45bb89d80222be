#!/usr/bin/env node
// Makes a component of a plugin: bundles its modules, JavaScript or TypeScript, and hands them to the compiler of an engine.
//
//   hookloom-plugin-build --kind mapper|reshaper --out FILE [--entry FILE] [--engine quickjs|spidermonkey]
//
// Works in the plugin's folder. `hookloom plugin build` runs it.
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { table } from "./lines.js";

const HERE = dirname(fileURLToPath(import.meta.url));
const ENTRIES = ["src/plugin.ts", "src/plugin.js"];
const INTERFACES = { mapper: "mapping", reshaper: "reshaping" };

const ENGINES = {
  /**
   * About 1.6 MiB; the build of the engine that is optimized for size has 0.5 MB less, and takes a quarter more time for a call. WASI is
   * replaced by stubs that trap; without `sync` the component would use the asynchronous component model.
   */
  async quickjs(source, world) {
    const { componentize } = await import("componentize-qjs");
    const options = { witPath: `${HERE}/wit`, jsSource: source, world, stubWasi: true, sync: true };
    return (await componentize(options)).component;
  },
  /** About 11.5 MiB: for code that needs all of the language as browsers have it, Intl apart. */
  async spidermonkey(source, world) {
    const { componentize } = await import("@bytecodealliance/componentize-js").catch((error) => {
      // The compiler needs the shim, and doesn't bring it.
      const packages = "@bytecodealliance/componentize-js@0.23.0 @bytecodealliance/preview2-shim@0.17.4";
      throw error.code === "ERR_MODULE_NOT_FOUND"
        ? new Refused(`the engine spidermonkey has a compiler of its own: npm install --save-dev ${packages}`)
        : error;
    });
    const disableFeatures = ["stdio", "random", "clocks", "http", "fetch-event"];
    return (await componentize(source, { witPath: `${HERE}/wit`, worldName: world, disableFeatures })).component;
  },
};

/** What the author can mend: shown without a stack. */
class Refused extends Error {}

async function main() {
  const { values } = parseArgs({
    options: {
      kind: { type: "string" },
      out: { type: "string" },
      entry: { type: "string" },
      engine: { type: "string", default: "quickjs" },
    },
  });
  const { kind, out, engine } = values;
  if (!INTERFACES[kind] || !ENGINES[engine] || !out) {
    throw new Refused("--kind is mapper or reshaper, --engine quickjs or spidermonkey, and --out names a file");
  }
  const entry = values.entry ?? ENTRIES.find((file) => existsSync(file));
  if (!entry || !existsSync(entry)) {
    throw new Refused(`there is no ${values.entry ?? ENTRIES.join(" or ")} here`);
  }
  const component = await ENGINES[engine](await bundle(entry, kind), kind);
  await mkdir(dirname(resolve(out)), { recursive: true });
  await writeFile(out, component);
}

/** One module with everything that the plugin imports, and the table of its own lines at the end, where it moves none. */
async function bundle(entry, kind) {
  const contents = `
    import { component } from ${JSON.stringify(`${HERE}/component.js`)};
    import plugin from ${JSON.stringify(`./${entry}`)};
    import { log, settings } from "hookloom:plugin/host@1.0.0";
    export const ${INTERFACES[kind]} = component(plugin, { log, settings }, __hookloom_lines()).${INTERFACES[kind]};`;
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: process.cwd(), sourcefile: "component" },
    bundle: true,
    write: false,
    outdir: ".",
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    target: "es2023",
    external: ["hookloom:*"],
    // This very SDK, however the plugin's folder leads to it.
    alias: { "@hookloom/plugin": `${HERE}/index.js` },
    sourcemap: "external",
    logLevel: "error",
  });
  const [map, code] = ["map", "js"].map((ending) => outputFiles.find((file) => file.path.endsWith(ending)).text);
  const isOwn = (source) => source !== "component" && !source.includes("node_modules/") && !resolve(source).startsWith(`${HERE}/`);
  return `${code}\nfunction __hookloom_lines() { return ${JSON.stringify(table(JSON.parse(map), isOwn))}; }\n`;
}

main().catch((error) => {
  // The bundler has told its errors already, with the places.
  if (!error.errors) {
    console.error(error instanceof Refused ? `error: ${error.message}` : error);
  }
  process.exitCode = 1;
});
