// The Worker's entry: the app with its real services.
import { createApp } from './app';

export default createApp();
