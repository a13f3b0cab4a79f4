// Reads a JSON array of texts from standard input and prints how many o200k tokens each has.
import { encode } from "gpt-tokenizer/encoding/o200k_base";

let input = "";
for await (const chunk of process.stdin) input += chunk;
console.log(JSON.stringify(JSON.parse(input).map((text) => encode(text).length)));
