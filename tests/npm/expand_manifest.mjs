// Print, as JSON, how a bundle host would launch the server of an unpacked bundle.
//
//   node expand_manifest.mjs FOLDER [USER_CONFIG_AS_JSON]

import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, sep } from "node:path";
import { getMcpConfigForManifest } from "@anthropic-ai/mcpb";

const [folder, userConfig = "{}"] = process.argv.slice(2);
const launch = await getMcpConfigForManifest({
  manifest: JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")),
  extensionPath: folder,
  systemDirs: { HOME: homedir() },
  userConfig: JSON.parse(userConfig),
  pathSeparator: sep,
});
console.log(JSON.stringify(launch));
