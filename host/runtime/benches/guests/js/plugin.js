import { defineReshaper, replaced } from "@hookloom/plugin";
import { transform } from "./transform.js";

export default defineReshaper(({ payload }) => replaced(transform(payload)));
